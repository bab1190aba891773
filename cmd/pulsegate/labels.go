package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// longestText bounds a ward, and a label's name or value, in bytes,
	// as the registry does.
	longestText = 128
	// mostLabels bounds an entry's labels, as the registry does.
	mostLabels = 32
)

// parseLabels reads labels of the form name=value.
func parseLabels(pairs []string) (map[string]string, error) {
	labels := map[string]string{}
	for _, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok {
			return nil, fmt.Errorf("%.80q is not of the form name=value", pair)
		}
		if _, again := labels[name]; again {
			return nil, fmt.Errorf("the label %.80q is given twice", name)
		}
		labels[name] = value
	}
	return labels, checkLabels(labels)
}

func checkLabels(labels map[string]string) error {
	if len(labels) > mostLabels {
		return fmt.Errorf("%d labels; at most %d are allowed", len(labels), mostLabels)
	}
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if name == "" {
			return errors.New("a label without a name")
		}
		if strings.ContainsAny(name, "=;") || strings.Contains(labels[name], ";") {
			return fmt.Errorf("the label %.80q holds a = or ; that separates labels", name)
		}
		for _, text := range []string{name, labels[name]} {
			if err := checkText(fmt.Sprintf("label %.80q", name), text); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkText refuses what could not be shown on a line.
func checkText(what, text string) error {
	if len(text) > longestText {
		return fmt.Errorf("%s has %d bytes; at most %d are allowed", what, len(text), longestText)
	}
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("%s holds a character that cannot be shown", what)
	}
	return nil
}

// joinLabels is what parseLabels has read, in the order of the names.
func joinLabels(labels map[string]string, separator string) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		pairs = append(pairs, name+"="+labels[name])
	}
	return strings.Join(pairs, separator)
}
