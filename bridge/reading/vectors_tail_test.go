package reading

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
)

const (
	malformed      = "malformed"
	badSignature   = "bad_signature"
	invalidReading = "invalid_reading"
)

// tailVectors are about where a payload ends, and how large it is.
func tailVectors() []vectorEntry {
	digits := mac(keyCurrent, text())
	raw, _ := hex.DecodeString(digits)
	filled := func(size int) string {
		return signed(text("note", `"`+strings.Repeat("x", size-len(signed(text("note", `""`))))+`"`))
	}
	return []vectorEntry{
		accept("plain", "the usual form", signed(text())),
		accept("hex_upper_case", "the signature in upper-case digits", sealed(text(), strings.ToUpper(digits))),
		accept("hex_mixed_case", "the signature in digits of both cases", sealed(text(), strings.ToUpper(digits[:31])+digits[31:])),
		accept("size_4096", "as large as a payload may be", filled(4096)),
		refuse(malformed, "size_4097", "one byte too large, and signed correctly", filled(4097)),
		refuse(malformed, "empty", "no bytes at all", ""),
		refuse(malformed, "closing_brace_only", "a single }", "}"),
		refuse(malformed, "not_json", "text that is no JSON", "spo2=97 heart_rate=72"),
		refuse(malformed, "empty_object", "an object with nothing in it", "{}"),
		refuse(malformed, "no_signature", "a reading that nobody signed", text()),
		refuse(malformed, "signature_alone", "the signature is the only member, so no comma comes before it", `{"signature":"`+mac(keyCurrent, "{}")+`"}`),
		refuse(malformed, "signature_first", "signed correctly, but the signature is the first member", `{"signature":"`+digits+`",`+text()[1:]),
		refuse(malformed, "signature_sorted", "the members were sorted by name, so timestamp comes after the signature",
			`{"device_id":"w-0001","heart_rate":72,"patient_id":"p-0001","seq":42,"signature":"`+digits+`","spo2":97,"timestamp":1763766000.123}`),
		refuse(malformed, "trailing_newline", "a line feed after the payload, as echo prints it", signed(text())+"\n"),
		refuse(malformed, "trailing_space", "a space after the payload", signed(text())+" "),
		refuse(malformed, "trailing_nul", "a zero byte after the payload, as a C string's size counts it", signed(text())+"\x00"),
		refuse(malformed, "trailing_object", "a second object after the payload", signed(text())+"{}"),
		refuse(malformed, "trailing_brace", "one } too many", signed(text())+"}"),
		refuse(malformed, "in_array", "the payload in an array", "["+signed(text())+"]"),
		refuse(malformed, "digits_63", "one digit too few", sealed(text(), digits[:63])),
		refuse(malformed, "digits_65", "one digit too many", sealed(text(), digits+"0")),
		refuse(malformed, "digits_none", "an empty signature", sealed(text(), "")),
		refuse(malformed, "digit_g", "a digit that is not hexadecimal", sealed(text(), digits[:63]+"g")),
		refuse(malformed, "digits_0x", "digits with 0x before them", sealed(text(), "0x"+digits)),
		refuse(malformed, "digits_base64", "the signature in base64", sealed(text(), base64.StdEncoding.EncodeToString(raw))),
		refuse(malformed, "digits_escaped", "a digit written with a JSON escape", sealed(text(), fmt.Sprintf(`\u%04x`, digits[0])+digits[1:])),
		refuse(malformed, "signature_number", "the signature is no string", tailed(`,"signature":12345678}`)),
		refuse(malformed, "signature_null", "the signature is null", tailed(`,"signature":null}`)),
		refuse(malformed, "name_upper_case", "the last member is Signature", tailed(`,"Signature":"HEX"}`)),
		refuse(malformed, "name_sig", "the last member is sig", tailed(`,"sig":"HEX"}`)),
		refuse(malformed, "name_escaped", "the last member means signature, but is written with an escape", tailed(`,"\u0073ignature":"HEX"}`)),
		refuse(malformed, "name_long_s", "the last member begins with U+017F, which folds to s", tailed(`,"ſignature":"HEX"}`)),
		refuse(malformed, "name_single_quotes", "single quotes", tailed(`,'signature':'HEX'}`)),
		refuse(malformed, "comma_missing", "no comma before the signature", tailed(` "signature":"HEX"}`)),
		refuse(malformed, "brace_missing", "no } at the end", tailed(`,"signature":"HEX"`)),
		refuse(invalidReading, "comma_twice", "two commas; the signed text ends in ,}", signed(strings.TrimSuffix(text(), "}")+",}")),
		refuse(invalidReading, "text_brace_only", "nothing before the comma; the signed text is a single }", signed("}")),
		refuse(invalidReading, "text_empty_object", "the signed text is {}, so the payload begins with {, which is not JSON", signed("{}")),
	}
}

// spaceVectors are about white space at the four places of the tail and around.
func spaceVectors() []vectorEntry {
	places := []struct{ name, form string }{
		{"after_comma", `,%s"signature":"HEX"}`},
		{"after_name", `,"signature"%s:"HEX"}`},
		{"after_colon", `,"signature":%s"HEX"}`},
		{"after_value", `,"signature":"HEX"%s}`},
	}
	var all []vectorEntry
	for _, p := range places {
		for n := 1; n <= 4; n++ {
			all = append(all, accept(fmt.Sprintf("space_%s_%d", p.name, n), fmt.Sprintf("%d white-space bytes there", n),
				tailed(fmt.Sprintf(p.form, " \t\r\n"[:n]))))
		}
		all = append(all, refuse(malformed, "space_"+p.name+"_5", "5 white-space bytes there, one too many",
			tailed(fmt.Sprintf(p.form, "     "))))
	}
	for _, b := range []struct{ name, byte string }{{"space", " "}, {"tab", "\t"}, {"line_feed", "\n"}, {"carriage_return", "\r"}} {
		all = append(all, accept("space_each_"+b.name, "this white-space byte at all four places",
			tailed(strings.ReplaceAll(`,_"signature"_:_"HEX"_}`, "_", b.byte))))
	}
	for _, b := range []struct{ name, byte string }{{"form_feed", "\f"}, {"vertical_tab", "\v"}, {"no_break_space", "\u00a0"}} {
		all = append(all, refuse(malformed, "space_not_"+b.name, "not one of JSON's four white-space bytes",
			tailed(`,`+b.byte+`"signature":"HEX"}`)))
	}
	pretty := "{\n" + strings.ReplaceAll(strings.Trim(text(), "{}"), ",", ",\n  ") + "\n}"
	return append(all,
		accept("space_four_everywhere", "the most white space that the tail may have",
			tailed(strings.ReplaceAll(`,_"signature"_:_"HEX"_}`, "_", "    "))),
		accept("space_before_comma_signed", "white space before the comma belongs to the signed text",
			signed(strings.TrimSuffix(text(), "}")+" \n }")),
		accept("space_before_comma_long", "in the signed text white space is not limited",
			signed(strings.TrimSuffix(text(), "}")+strings.Repeat(" ", 100)+"}")),
		accept("space_at_the_beginning", "white space before the object, signed", signed(" \r\n\t"+text())),
		accept("pretty_printed", "the signed text over several lines, signed just so", signed(pretty)),
		refuse(badSignature, "space_before_comma_unsigned", "a space before the comma that was not there when it was signed",
			strings.Replace(signed(text()), `,"signature"`, ` ,"signature"`, 1)),
		refuse(badSignature, "pretty_printed_after_signing", "signed in one line, then sent over several", sealed(pretty, mac(keyCurrent, text()))),
		refuse(badSignature, "space_removed_after_signing", "signed with spaces after the colons, sent without",
			sealed(text(), mac(keyCurrent, strings.ReplaceAll(text(), `":`, `": `)))),
	)
}
