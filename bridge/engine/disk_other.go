//go:build !(linux || darwin || freebsd)

package engine

// freeBytes knows nothing on this system; the server's own limit still holds.
func freeBytes(string) (free int64, known bool, err error) { return 0, false, nil }
