package reading_test

import (
	"testing"

	"github.com/pulsegate/pulsegate/bridge/reading"
)

func benchPayload(b *testing.B) []byte {
	b.Helper()
	payload, err := reading.Sign([]byte("key"), []byte(exampleText))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	return payload
}

func BenchmarkMAC(b *testing.B) {
	payload := benchPayload(b)
	mac := reading.NewMAC([]byte("key"))
	for b.Loop() {
		e, err := reading.Split(payload)
		if err != nil || !mac.Verify(e) {
			b.Fatal("refused")
		}
	}
}

func BenchmarkParse(b *testing.B) {
	payload := benchPayload(b)
	var p reading.Parser
	for b.Loop() {
		if _, err := p.Parse(payload); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMACAndParse(b *testing.B) {
	payload := benchPayload(b)
	mac := reading.NewMAC([]byte("key"))
	var p reading.Parser
	for b.Loop() {
		e, err := reading.Split(payload)
		if err != nil || !mac.Verify(e) {
			b.Fatal("refused")
		}
		if _, err := p.Parse(payload); err != nil {
			b.Fatal(err)
		}
	}
}
