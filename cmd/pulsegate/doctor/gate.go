package doctor

import (
	"context"
	"errors"
	"net"
	"net/url"
)

// gate asks the gate whether it is ready, and compares that with who uses the
// data directory.
func (e *examination) gate(ctx context.Context) []finding {
	address := e.Config.HTTP.Listen
	if anyPort(address) {
		return []finding{skipped("http.listen %s is any free port: say with --http-listen which one it is", address)}
	}
	err := e.Ready(ctx)
	_, silent := errors.AsType[*url.Error](err)
	holder := e.known.held()
	switch {
	case silent && holder != "":
		return []finding{wrong("the data directory %s is in use by %s, but nobody answers at http.listen %s: two gates are given one directory, or that one has another configuration than this; stop it, or give each its own directory", e.Config.Data, holder, address)}
	case silent:
		return []finding{skipped("no gate answers at http.listen %s: start it with `pulsegate serve`", address)}
	case err != nil:
		return []finding{wrong("%s: %v", address, err)}
	case holder == "":
		return []finding{wrong("a gate answers at http.listen %s, but does not use the data directory %s: give the configuration that it runs with", address, e.Config.Data)}
	}
	return []finding{well("ready, at %s", address)}
}

// anyPort says whether an address leaves the port to the system.
func anyPort(address string) bool {
	_, port, err := net.SplitHostPort(address)
	return err == nil && port == "0"
}
