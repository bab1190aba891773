package ingress

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/pires/go-proxyproto"
)

// proxyBuffer holds a PROXY protocol header of usual length, in bytes.
const proxyBuffer = 256

// errHealthCheck ends a connection that a balancer opened only to see that it
// can.
var errHealthCheck = errors.New("a balancer's check, which said nothing")

// introduced reads the PROXY protocol header, version 1 or 2, with which a
// balancer begins each connection, and takes the client's address from it. LOCAL
// and UNKNOWN leave the balancer's own. CONNECT's deadline holds for it too.
//
// The library's own connection would read the header when first asked for the
// address, wherever that is, and take a balancer that sends nothing for one that
// needs no header.
func (s *socket) introduced() error {
	in := bufio.NewReaderSize(s.Conn, proxyBuffer)
	if _, err := in.Peek(1); errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("no PROXY protocol header: %w", err)
	} else if err != nil {
		return errHealthCheck
	}
	header, err := proxyproto.Read(in)
	if err != nil {
		return err
	}
	if client, ok := header.SourceAddr.(*net.TCPAddr); ok && header.Command.IsProxy() {
		s.remote = client
	}
	if in.Buffered() > 0 {
		s.early = in
	}
	return nil
}
