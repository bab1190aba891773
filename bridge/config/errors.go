package config

import (
	"regexp"
	"strconv"
	"strings"
)

// Error is one thing wrong with the configuration, on one line and without secrets.
type Error struct {
	// Origin is where it came from: FILE:LINE, an environment variable, a flag, or the default; empty where unknown.
	Origin string
	// Key is the setting's dotted name; empty where no setting is meant.
	Key string
	// Problem says what is wrong.
	Problem string
	// Allowed says what would be right; empty where Problem says it.
	Allowed string
}

// Error joins the parts.
func (e *Error) Error() string {
	var parts []string
	for _, part := range []string{e.Origin, e.Key, e.Problem} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	text := strings.Join(parts, ": ")
	if e.Allowed != "" {
		text += "; allowed: " + e.Allowed
	}
	return text
}

const longestShown = 80

// quote shows a value of a leaf that is no secret. It shows nothing with white space or an @ either: a forgotten line
// break or colon makes a password part of its neighbour's value, and a URL's credentials may stand anywhere.
func quote(l leaf, value string) string {
	if l.secret() || len(value) > longestShown || strings.ContainsAny(value, " \t\r\n@") {
		return "the value"
	}
	return strconv.Quote(value)
}

var plainName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// named shows a key of the file only where it looks like a name, since `password: x` with its colon or space forgotten is
// a key too.
func named(kind, name string) string {
	if !plainName.MatchString(name) {
		return kind + " (not shown, for it is no plain name)"
	}
	return kind + " " + strconv.Quote(name)
}
