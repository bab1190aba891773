package egress

import "fmt"

// publish lets a publication go out behind those that came before. It does not
// block.
func (s *Store) publish(p *publication) {
	s.mu.Lock()
	entered := s.enter(p)
	if entered {
		s.outgoing = append(s.outgoing, p)
	}
	first := len(s.outgoing) == 1
	s.mu.Unlock()
	switch {
	case !entered:
		p.fail()
	case first:
		select {
		case s.ready <- struct{}{}:
		case <-s.stop:
		}
	}
}

// await lets a publication's answer be found, and says whether there can be one.
func (s *Store) await(p *publication) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.enter(p)
}

// enter is await; its caller holds the lock.
func (s *Store) enter(p *publication) bool {
	if s.closed {
		p.cause = errClosed
		return false
	}
	s.pending[p.token] = p
	return true
}

// sendFirst publishes what is outgoing. The connection's lock is held while it
// writes: were it taken by all who read sockets, they would wait for each other,
// and nothing would be verified meanwhile.
func (s *Store) sendFirst() {
	var some []*publication
	fresh := min(patience, s.options.Deadline)
	for {
		select {
		case <-s.stop:
			return
		case <-s.ready:
		}
		s.mu.Lock()
		some, s.outgoing = s.outgoing, some[:0]
		s.mu.Unlock()
		for _, p := range some {
			switch waited := passed(p.started, s.options.Now()); {
			case waited >= fresh:
				s.notSent(p) // sendAgain will, if it still stands
			case waited >= tick:
				s.retry(p) // much may have changed
			default:
				s.send(p)
			}
		}
		clear(some)
	}
}

func (s *Store) send(p *publication) {
	f := s.forms.Get().(*form)
	f.message.Subject, f.message.Reply, f.message.Data = p.subject, p.reply, p.payload
	f.id[0], f.findings[0] = p.id, p.findings
	err := s.nc.PublishMsg(&f.message)
	s.forms.Put(f)
	if err != nil {
		s.postpone(p.token, fmt.Errorf("publishing to NATS: %w", err))
	}
}
