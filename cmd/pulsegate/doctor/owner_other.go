//go:build !unix

package doctor

import "io/fs"

// writable knows nothing on this system, where access follows lists.
func writable(string, fs.FileInfo) string { return "" }

func foreign(fs.FileInfo, fs.FileInfo) bool { return false }

func named(int) string { return "" }

func ownerOf(fs.FileInfo) int { return 0 }
