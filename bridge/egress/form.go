package egress

import (
	"encoding/hex"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// label writes the headers and the reply subject of a publication, all into one
// string.
func (s *Store) label(p *publication, r Record) {
	b := make([]byte, 0, 256)
	b = hex.AppendEncode(b, r.Identity[:])
	id := len(b)
	b = s.appendFindings(b, r)
	findings := len(b)
	b = append(b, s.inbox...)
	all := string(strconv.AppendUint(b, p.token, 36))
	p.id, p.findings, p.reply = all[:id], all[id:findings], all[findings:]
}

// appendFindings writes the header's value. Ids and numbers need no quoting.
func (s *Store) appendFindings(b []byte, r Record) []byte {
	b = append(b, "generation="...)
	b = strconv.AppendUint(b, uint64(r.Generation), 10)
	b = append(b, ", age_ms="...)
	b = strconv.AppendInt(b, r.Age.Milliseconds(), 10)
	b = append(b, ", received="...)
	b = strconv.AppendFloat(b, float64(r.Received.UnixMilli())/1000, 'f', 3, 64)
	b = append(b, `, replica="`...)
	b = append(b, s.options.Replica...)
	return append(b, '"')
}

// form is a message to be filled in again and again: nats.go keeps nothing of
// what it has published, and a map of headers for each would cost more than what
// is in it.
type form struct {
	message      nats.Msg
	id, findings []string
}

func newForm() any {
	f := &form{id: make([]string, 1), findings: make([]string, 1)}
	f.message.Header = nats.Header{jetstream.MsgIDHeader: f.id, HeaderFindings: f.findings}
	return f
}
