package limits_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/pulsegate/pulsegate/bridge/limits"
)

// journal is what a log holds: lines, and for how many more of each kind they
// stand.
type journal struct {
	written, leftOut map[string]int
	lines            int
}

const leftOut = "more lines like this were left out: "

func read(t *testing.T, log *bytes.Buffer) journal {
	t.Helper()
	j := journal{written: map[string]int{}, leftOut: map[string]int{}}
	for line := range bytes.Lines(log.Bytes()) {
		var l struct {
			Level, Message string
			From, Until    time.Time
			LeftOut        int `json:"left_out"`
		}
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		j.lines++
		what, summary := strings.CutPrefix(l.Message, leftOut)
		if summary != (l.LeftOut > 0) || summary && (l.From.IsZero() || l.Until.Before(l.From)) {
			t.Errorf("%s", line)
		}
		if summary {
			j.leftOut[l.Level+" "+what] += l.LeftOut
		} else {
			j.written[l.Level+" "+what]++
		}
	}
	return j
}

func remote(e *zerolog.Event) { e.Str("remote", "192.0.2.1") }

// TestALogUnderAFlood lets one kind of line flood for a minute, beside another
// that is rare: the lines are few, their sum is exact, and the rare one is there.
func TestALogUnderAFlood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		log := limits.NewLog(zerolog.New(zerolog.SyncWriter(&text)))
		const seconds, flood = 60, 1000
		for range seconds {
			for range flood {
				log.Warn("refused", remote)
			}
			time.Sleep(time.Second)
		}
		log.Error("a panic", remote)
		time.Sleep(20 * time.Second)
		synctest.Wait() // nobody has closed it
		j := read(t, &text)
		if n := j.written["warn refused"] + j.leftOut["warn refused"]; n != seconds*flood {
			t.Errorf("the lines stand for %d, want %d: %+v", n, seconds*flood, j)
		}
		if j.written["error a panic"] != 1 || j.lines > 75 || j.written["warn refused"] < 5 {
			t.Errorf("%+v", j)
		}
		// After a rest lines are written again.
		text.Reset()
		log.Warn("refused", remote)
		if got := read(t, &text); got.written["warn refused"] != 1 || got.lines != 1 || !strings.Contains(text.String(), "192.0.2.1") {
			t.Errorf("after a rest: %s", text.String())
		}
	})
}

// TestALogTellsTheRest at its end, and nothing where there is none.
func TestALogTellsTheRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		log := limits.NewLog(zerolog.New(zerolog.SyncWriter(&text)))
		for i := range 100 {
			log.Warn("refused", func(e *zerolog.Event) {
				if i >= 5 {
					t.Errorf("line %d is made, though it is left out", i)
				}
			})
		}
		log.Tell()
		if j := read(t, &text); j.written["warn refused"] != 5 || j.leftOut["warn refused"] != 95 {
			t.Errorf("%+v", j)
		}
		text.Reset()
		log.Tell()
		time.Sleep(time.Minute)
		synctest.Wait()
		if text.Len() > 0 {
			t.Errorf("told again: %s", text.String())
		}
	})
}

// TestALogOfManyKinds is bounded whatever strangers cause.
func TestALogOfManyKinds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		log := limits.NewLog(zerolog.New(zerolog.SyncWriter(&text)))
		const kinds, each = 300, 10
		for i := range kinds * each {
			log.Warn(fmt.Sprint(i%kinds), remote)
		}
		log.Tell()
		j, sum := read(t, &text), 0
		for _, counts := range []map[string]int{j.written, j.leftOut} {
			for _, n := range counts {
				sum += n
			}
		}
		if sum != kinds*each || j.lines > 50+65 {
			t.Errorf("%d lines stand for %d, want %d", j.lines, sum, kinds*each)
		}
	})
}

// TestALogIsExactUnderRace writes from many goroutines, while it tells.
func TestALogIsExactUnderRace(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	log := limits.NewLog(zerolog.New(zerolog.SyncWriter(&text)))
	const writers, each = 8, 500
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for i := range each {
				log.Warn("refused", remote)
				if i%100 == 0 {
					log.Tell()
				}
			}
		})
	}
	all.Wait()
	log.Tell()
	if j := read(t, &text); j.written["warn refused"]+j.leftOut["warn refused"] != writers*each {
		t.Errorf("%+v, want %d in all", j, writers*each)
	}
}
