package presence_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pulsegate/pulsegate/bridge/presence"
)

// TestTheDocumentsEvents reads the examples, which must be as events are written.
func TestTheDocumentsEvents(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "presence.md"))
	need(t, err)
	examples := 0
	for _, block := range strings.Split(string(text), "```json\n")[1:] {
		example, _, _ := strings.Cut(block, "\n```")
		var e presence.Event
		need(t, json.Unmarshal([]byte(example), &e))
		again, err := json.Marshal(e)
		need(t, err)
		if string(again) != example {
			t.Errorf("the document says\n%s\nand an event\n%s", example, again)
		}
		examples++
	}
	if examples != 4 {
		t.Errorf("%d examples", examples)
	}
}
