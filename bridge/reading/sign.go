package reading

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Sign appends the signature member to a text, which must be one flat JSON
// object that ends in "}", has a member already and no signature. The text's
// bytes go out as they are. Its error wraps ErrText, or ErrMalformed where the
// signed payload would be larger than MaxPayload.
func Sign(key, text []byte) ([]byte, error) {
	if len(text) < 2 || text[0] != '{' || text[len(text)-1] != '}' {
		return nil, fmt.Errorf("%w: the text must be one JSON object, from { to }, with nothing around it", ErrText)
	}
	if err := checkFlat(text); err != nil {
		return nil, err
	}
	e := Envelope{body: text[:len(text)-1]}
	sum := NewMAC(key).Sum(e)
	const member = `,"signature":"`
	payload := make([]byte, 0, len(e.body)+len(member)+2*sha256.Size+2)
	payload = append(payload, e.body...)
	payload = append(payload, member...)
	payload = hex.AppendEncode(payload, sum[:])
	payload = append(payload, `"}`...)
	if len(payload) > MaxPayload {
		return nil, fmt.Errorf("%w: %d bytes with the signature, at most %d are allowed", ErrMalformed, len(payload), MaxPayload)
	}
	return payload, nil
}

// checkFlat refuses a text that would be no flat JSON object with members, or
// that has a signature already.
func checkFlat(text []byte) error {
	d := jsontext.NewDecoder(bytes.NewReader(text))
	if _, err := d.ReadToken(); err != nil {
		return fmt.Errorf("%w: %w", ErrText, syntax(err))
	}
	members := 0
	for ; d.PeekKind() != '}'; members++ {
		name, err := d.ReadToken()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrText, syntax(err))
		}
		if strings.EqualFold(name.String(), "signature") {
			return fmt.Errorf("%w: the text has a signature member already", ErrText)
		}
		if k := d.PeekKind(); k == '{' || k == '[' {
			return fmt.Errorf("%w: a member is an object or array; a reading is flat", ErrText)
		}
		if err := d.SkipValue(); err != nil {
			return fmt.Errorf("%w: %w", ErrText, syntax(err))
		}
	}
	if members == 0 {
		return fmt.Errorf("%w: the object is empty", ErrText)
	}
	if _, err := d.ReadToken(); err != nil {
		return fmt.Errorf("%w: %w", ErrText, syntax(err))
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: something follows the JSON object", ErrText)
	}
	return nil
}
