//go:build !unix

package registry

import "os"

// keepOwner does nothing: who may use the file follows from its directory.
func keepOwner(string, *os.File) error { return nil }
