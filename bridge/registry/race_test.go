//go:build race

package registry

// Racing says that the race detector makes all slow, and memory large.
const Racing = true
