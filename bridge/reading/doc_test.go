package reading_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/pulsegate/pulsegate/bridge/reading"
	"github.com/pulsegate/pulsegate/bridge/verify"
)

const specification = "../../docs/signed-reading.md"

func readSpecification(t *testing.T) string {
	t.Helper()
	doc, err := os.ReadFile(specification)
	if err != nil {
		t.Fatal(err)
	}
	return string(doc)
}

// blocks returns the fenced blocks of a language.
func blocks(doc, language string) []string {
	var found []string
	for _, m := range regexp.MustCompile("(?s)\n```"+language+"\n(.*?)\n```\n").FindAllStringSubmatch(doc, -1) {
		found = append(found, m[1])
	}
	return found
}

// TestWorkedExample signs the specification's text with its key, and compares
// every number that it states with what comes out.
func TestWorkedExample(t *testing.T) {
	doc := readSpecification(t)
	examples := blocks(doc, "json")
	if len(examples) != 2 {
		t.Fatalf("%d examples in JSON, want the signed text and the payload", len(examples))
	}
	text, payload := examples[0], examples[1]
	signed, err := reading.Sign(unhex(t, clientKey), []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if string(signed) != payload {
		t.Errorf("the payload is\n%s\nand should be\n%s", payload, signed)
	}
	authentic(t, []byte(payload))
	e, err := reading.Split(signed)
	if err != nil {
		t.Fatal(err)
	}
	for _, said := range []string{
		"Key: `" + clientKey + "`",
		"MAC: `" + e.Signature.String() + "`",
		fmt.Sprintf("Signed text, %d bytes", len(text)),
		fmt.Sprintf("Payload, %d bytes", len(payload)),
		fmt.Sprintf("at most %d bytes", reading.MaxPayload),
		fmt.Sprintf("at most %d.", reading.MaxPayload-(len(payload)-len(text))),
		fmt.Sprintf("0 to %d", int64(reading.MaxTimestamp)),
		fmt.Sprintf("0 to %d", int64(reading.MaxSeq)),
		fmt.Sprintf("from 0 to %d ", reading.MaxSpO2),
		fmt.Sprintf("from 0 to %d ", reading.MaxHeartRate),
		fmt.Sprintf("{1,%d}", reading.MaxID),
	} {
		if !strings.Contains(doc, said) {
			t.Errorf("the specification does not say %q", said)
		}
	}
}

func TestWorkedExampleInShell(t *testing.T) {
	need(t, "sh", "openssl")
	doc := readSpecification(t)
	scripts := blocks(doc, "sh")
	if len(scripts) != 1 {
		t.Fatalf("%d shell examples, want one", len(scripts))
	}
	out, err := exec.Command("sh", "-euc", scripts[0]).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if string(out) != blocks(doc, "json")[1] {
		t.Errorf("the shell example prints\n%s", out)
	}
}

func TestSpecificationNamesEveryOutcome(t *testing.T) {
	doc := readSpecification(t)
	for _, o := range verify.Outcomes() {
		if !strings.Contains(doc, "`"+o.String()+"`") {
			t.Errorf("the outcome %v does not occur", o)
		}
	}
}

// TestSpecificationNamesEveryMember keeps the description of the vectors
// complete.
func TestSpecificationNamesEveryMember(t *testing.T) {
	doc := readSpecification(t)
	var file struct {
		Defaults map[string]any
		Vectors  []map[string]any
	}
	if err := json.Unmarshal([]byte(reading.VectorsJSON()), &file); err != nil {
		t.Fatal(err)
	}
	for _, object := range append(file.Vectors, file.Defaults) {
		for name := range object {
			if !strings.Contains(doc, "`"+name+"`") {
				t.Fatalf("the member %s of the vectors does not occur", name)
			}
		}
	}
}
