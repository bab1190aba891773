package egress

// lineLength is how many groups of one device may wait for their look-up.
const lineLength = 1024

// turns are the groups that wait for a look-up. Each device has a line of its
// own, and the devices take turns: whoever replays what one device once sent
// makes that device wait, and no other. There are never more groups than
// readings in flight, which ingress bounds.
type turns struct {
	lines map[string][]*group
	// devices are those with a line, in the order of their turns.
	devices []string
	// ready holds a token while anybody waits.
	ready chan struct{}
}

func newTurns() turns {
	return turns{lines: make(map[string][]*group), ready: make(chan struct{}, 1)}
}

// push puts a group at the end of its device's line, unless that is full.
func (t *turns) push(g *group) bool {
	line := t.lines[g.key.device]
	if len(line) >= lineLength {
		return false
	}
	if len(line) == 0 {
		t.devices = append(t.devices, g.key.device)
	}
	t.lines[g.key.device] = append(line, g)
	t.signal()
	return true
}

// pop returns the group whose turn it is, or nil.
func (t *turns) pop() *group {
	if len(t.devices) == 0 {
		return nil
	}
	device := t.devices[0]
	t.devices = t.devices[1:]
	line := t.lines[device]
	g := line[0]
	line[0] = nil
	if line = line[1:]; len(line) > 0 {
		t.lines[device] = line
		t.devices = append(t.devices, device)
	} else {
		delete(t.lines, device)
	}
	if len(t.devices) > 0 {
		t.signal()
	}
	return g
}

func (t *turns) signal() {
	select {
	case t.ready <- struct{}{}:
	default:
	}
}
