package main

import (
	"runtime/debug"
	"testing"
)

func TestRevision(t *testing.T) {
	commit := debug.BuildSetting{Key: "vcs.revision", Value: "0123abcd"}
	for want, settings := range map[string][]debug.BuildSetting{
		"":                              {{Key: "vcs.modified", Value: "true"}, {Key: "GOOS", Value: "linux"}},
		", revision 0123abcd":           {commit, {Key: "vcs.modified", Value: "false"}},
		", revision 0123abcd, modified": {{Key: "vcs.modified", Value: "true"}, commit},
	} {
		if got := revision(settings); got != want {
			t.Errorf("%v: %q, want %q", settings, got, want)
		}
	}
}
