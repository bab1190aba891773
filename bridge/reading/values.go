package reading

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

func id(last *string, name string, v jsontext.Value) (string, error) {
	if v.Kind() != '"' {
		return "", invalid("%s is not a string", name)
	}
	if *last != "" && string(v[1:len(v)-1]) == *last {
		return *last, nil
	}
	text, err := unquote(v)
	if err != nil || !ValidID(text) {
		return "", invalid("%s does not match [A-Za-z0-9_-]{1,64}", name)
	}
	*last = text
	return text, nil
}

func number(name string, limit float64, v jsontext.Value) (float64, error) {
	if v.Kind() != '0' {
		return 0, invalid("%s is not a number", name)
	}
	f, ok := small(v)
	if !ok {
		var err error
		if f, err = strconv.ParseFloat(string(v), 64); err != nil {
			f = -1
		}
	}
	if f < 0 || f > limit {
		return 0, invalid("%s is not from 0 to %v", name, limit)
	}
	return f, nil
}

// small reads what most vital signs are: a number of up to three digits.
func small(v jsontext.Value) (float64, bool) {
	if len(v) > 3 {
		return 0, false
	}
	n := 0
	for _, c := range v {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return float64(n), true
}

// binary64 refuses a number that consumers' parsers would not take, or would
// turn into infinity, in a member that is only carried along (RFC 7493 section
// 2.2).
func binary64(v jsontext.Value) error {
	if v.Kind() != '0' {
		return nil
	}
	if _, err := strconv.ParseFloat(string(v), 64); err != nil {
		return invalid("a number is larger than a binary64 can hold")
	}
	return nil
}

// sequence takes digits only: 42.0 and 4.2e1 are the same number to some
// consumers and errors to others.
func sequence(v jsontext.Value) (uint64, error) {
	n, err := strconv.ParseUint(string(v), 10, 64)
	if err != nil || n > MaxSeq {
		return 0, invalid("seq is not an integer from 0 to %d", int64(MaxSeq))
	}
	return n, nil
}

func timestamp(v jsontext.Value) (time.Time, error) {
	switch v.Kind() {
	case '0':
		return numericDate(string(v))
	case '"':
		text, err := unquote(v)
		if err != nil {
			return time.Time{}, err
		}
		return dateTime(text)
	default:
		return time.Time{}, invalid("timestamp is neither a number nor a string")
	}
}

// numericDate reads an RFC 7519 NumericDate. The range is checked on the float,
// because converting a larger one to an integer has no defined result.
func numericDate(text string) (time.Time, error) {
	f, err := strconv.ParseFloat(text, 64)
	switch {
	case err == nil && f > MaxTimestamp && f <= 1000*MaxTimestamp:
		return time.Time{}, invalid("timestamp is out of range: it looks like milliseconds, and must be seconds since 1970")
	case err != nil || f < 0 || f > MaxTimestamp:
		return time.Time{}, invalid("timestamp is not from 0 to %d seconds since 1970", int64(MaxTimestamp))
	}
	seconds, fraction := math.Modf(f)
	return time.Unix(int64(seconds), int64(math.Round(fraction*1e6))*1000).UTC(), nil
}

func dateTime(text string) (time.Time, error) {
	if !dateTimeShape(text) {
		return time.Time{}, errDateTime()
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, errDateTime()
	}
	if t.Unix() < 0 || t.After(time.Unix(MaxTimestamp, 0)) {
		return time.Time{}, invalid("timestamp is not between 1970 and 9999")
	}
	return t.UTC().Round(time.Microsecond), nil
}

func errDateTime() error {
	return invalid("timestamp is not an RFC 3339 date and time with a zone, such as 2025-11-21T23:00:00.123Z")
}

// dateTimeShape reports whether a text has the shape that RFC 3339 section 5.6
// gives a date-time, in upper case, with a zone below 24:00. time.Parse does not
// make sure of that: it also takes an hour of one digit, a comma before the
// fraction and a zone of +24:60 (golang/go#54580), which other parsers refuse.
func dateTimeShape(text string) bool {
	const form = "dddd-dd-ddTdd:dd:dd"
	rest, ok := cutForm(text, form)
	if !ok {
		return false
	}
	if fraction, found := strings.CutPrefix(rest, "."); found {
		rest = strings.TrimLeft(fraction, "0123456789")
		if len(rest) == len(fraction) {
			return false
		}
	}
	if rest == "Z" {
		return true
	}
	if rest == "" || rest[0] != '+' && rest[0] != '-' {
		return false
	}
	end, ok := cutForm(rest[1:], "dd:dd")
	return ok && end == "" && rest[1:3] < "24" && rest[4:6] < "60"
}

// cutForm cuts a beginning off a text, in which d stands for a digit and every
// other byte for itself.
func cutForm(text, form string) (rest string, ok bool) {
	if len(text) < len(form) {
		return "", false
	}
	for i := range len(form) {
		c := text[i]
		if form[i] == 'd' && (c < '0' || '9' < c) || form[i] != 'd' && c != form[i] {
			return "", false
		}
	}
	return text[len(form):], true
}
