package certs_test

import (
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/certs"
	"github.com/pulsegate/pulsegate/bridge/certs/certstest"
)

// The end is that of the files as they are, without a handshake in between.
func TestExpiresFollowsTheFiles(t *testing.T) {
	authority, now := certstest.New(t), time.Now()
	first := now.Add(time.Hour).Truncate(time.Second)
	pair := authority.Issue(t, "first", certstest.Until(first))
	source, err := certs.Open(certs.Files{Cert: pair.Cert, Key: pair.Key}, certs.Options{Now: func() time.Time { return now }, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	if got := source.Expires(); !got.Equal(first) {
		t.Errorf("it expires at %v, want %v", got, first)
	}
	second := first.Add(time.Hour)
	pair.Replace(t, authority.Issue(t, "second", certstest.Until(second)))
	now = now.Add(time.Minute)
	if got := source.Expires(); !got.Equal(second) {
		t.Errorf("renewed, it expires at %v, want %v", got, second)
	}
}
