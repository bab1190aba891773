package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json"
)

// longestLine bounds a line of JSON, in bytes: many times what a device needs.
const longestLine = 64 << 10

// readObjects reads lines of JSON objects, leaving out empty ones. An error is
// one of the file as a whole.
func (t *table) readObjects(r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, longestLine)
	line := 0
	for lines.Scan() {
		line++
		text := bytes.TrimSpace(lines.Bytes())
		if len(text) == 0 {
			continue
		}
		var record deviceRecord
		if err := json.Unmarshal(text, &record, json.RejectUnknownMembers(true)); err != nil {
			t.wrong.add(t.place(line), "%w", notARecord(err))
			continue
		}
		t.add(line, record)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", t.place(line+1), err)
	}
	return nil
}

// notARecord says what is wrong with a line, and quotes none of its values,
// since one may be a key.
func notARecord(err error) error {
	var semantic *json.SemanticError
	if !errors.As(err, &semantic) {
		return fmt.Errorf("not one JSON object with the members %s, each at most once", strings.Join(recordNames(), ", "))
	}
	member := strings.TrimPrefix(string(semantic.JSONPointer), "/")
	switch {
	case errors.Is(err, json.ErrUnknownName):
		return fmt.Errorf("unknown member %.80q; allowed are %s", member, strings.Join(recordNames(), ", "))
	case member == "":
		return errors.New("not a JSON object")
	case strings.HasPrefix(member, "labels"):
		return errors.New("labels must be an object of strings")
	}
	return fmt.Errorf("%s must be a string", member)
}
