package reading

import (
	"fmt"
	"strings"
)

// added is the standard text with one more member at its end.
func added(member string) string { return strings.TrimSuffix(text(), "}") + "," + member + "}" }

// syntaxVectors are about strict JSON. All are signed with a true key.
func syntaxVectors() []vectorEntry {
	all := []vectorEntry{
		accept("member_unknown", "unknown members are carried along", signed(text("firmware", `"1.4.2"`, "battery", "87.5", "worn", "true"))),
		accept("member_unknown_null", "an unknown member may be null", signed(text("room", "null"))),
		accept("member_unknown_empty_name", "an unknown member may have the empty name", signed(added(`"":1`))),
		accept("member_unknown_unicode", "names and values beyond ASCII, an escaped surrogate pair and U+0000", signed(text("größe", `"日本 😀 \ud83d\ude00 \u0000"`))),
		accept("member_unknown_first", "the order of members is free",
			signed(`{"x":1,"heart_rate":72,"spo2":97,"seq":42,"timestamp":1763766000.123,"patient_id":"p-0001","device_id":"w-0001"}`)),
		accept("member_escaped_name", "a known member whose name is written with escapes", signed(strings.Replace(text(), `"spo2"`, `"\u0073p\u006F2"`, 1))),
		accept("member_escaped_id", "an id written with escapes is the id that it means", signed(strings.Replace(text(), `"w-0001"`, `"\u0077-0001"`, 1))),
		accept("number_unknown_largest", "the largest binary64 number in an unknown member", signed(text("x", "1.7976931348623157e308"))),
		accept("text_ends_like_a_tail", "an earlier string contains what looks like a tail",
			signed(text("note", `",\"signature\":\"`+strings.Repeat("0", 64)+`\"}"`))),
	}
	for _, v := range []struct{ name, why, text string }{
		{"bom", "a byte order mark", "\xef\xbb\xbf" + text()},
		{"utf8_invalid", "a byte that is not UTF-8", text("note", "\"\xff\"")},
		{"utf8_invalid_name", "a byte that is not UTF-8, in a name", added("\"no\xffte\":1")},
		{"utf8_truncated", "a UTF-8 sequence that breaks off", text("note", "\"\xe2\x82\"")},
		{"utf8_overlong", "an overlong spelling of /", text("note", "\"\xc0\xaf\"")},
		{"utf8_surrogate", "a surrogate encoded as UTF-8", text("note", "\"\xed\xa0\x80\"")},
		{"surrogate_high_alone", "a high surrogate alone", text("note", `"\ud83d"`)},
		{"surrogate_low_alone", "a low surrogate alone", text("note", `"\ude00"`)},
		{"surrogates_swapped", "a low surrogate before a high one", text("note", `"\ude00\ud83d"`)},
		{"utf16", "the text in UTF-16", "{\x00\"\x00x\x00\"\x00:\x001\x00}"},
		{"control_character", "a bare line feed in a string", text("note", "\"a\nb\"")},
		{"escape_unknown", "an escape that JSON does not have", text("note", `"\x41"`)},
		{"escape_short", "an escape of three digits", text("note", `"\u004"`)},
		{"object_before", "another object before the reading", "{}" + text()},
		{"value_before", "a number before the reading", "1 " + text()},
		{"array", "an array that ends as an object does", `["w-0001"}`},
		{"string_cut", "a string that swallows the tail", `{"device_id":"w-0001}`},
		{"colon_missing", "no colon", strings.Replace(text(), `"spo2":`, `"spo2"`, 1)},
		{"comma_missing_inside", "no comma between two members", strings.Replace(text(), `97,`, `97 `, 1)},
		{"comment", "a comment", strings.Replace(text(), `"spo2"`, `/* percent */"spo2"`, 1)},
		{"name_without_quotes", "a name without quotes", strings.Replace(text(), `"spo2"`, `spo2`, 1)},
		{"name_number", "a number as a name", added("1:1")},
		{"nested_object", "an unknown member that is an object", text("meta", `{"a":1}`)},
		{"nested_object_empty", "an unknown member that is an empty object", text("meta", `{}`)},
		{"nested_array", "an unknown member that is an array", text("history", `[96,97]`)},
		{"nested_array_empty", "an unknown member that is an empty array", text("history", `[]`)},
		{"nested_deep", "3,000 arrays in each other", text("a", strings.Repeat("[", 1500)+strings.Repeat("]", 1500))},
		{"nested_deep_open", "arrays that are never closed", text("a", strings.Repeat("[", 3000))},
		{"nested_known", "a known member that is an object", text("spo2", `{"value":97}`)},
		{"literal_upper_case", "True is not JSON", text("worn", "True")},
		{"literal_unknown", "undefined is not JSON", text("worn", "undefined")},
		{"number_unknown_huge", "an unknown member beyond binary64, which consumers read as infinity or not at all", text("x", "1e400")},
		{"number_unknown_long", "an unknown member of 400 digits, beyond binary64", text("x", strings.Repeat("9", 400))},
	} {
		all = append(all, refuse(invalidReading, v.name, v.why, signed(v.text)))
	}
	return all
}

// nameVectors are about names that are not what they seem.
func nameVectors() []vectorEntry {
	var all []vectorEntry
	for _, v := range []struct{ name, why, member string }{
		{"duplicate_spo2", "spo2 twice", `"spo2":40`},
		{"duplicate_equal", "spo2 twice with the same value", `"spo2":97`},
		{"duplicate_escaped", "spo2 again, written with an escape", `"sp\u006f2":40`},
		{"duplicate_patient", "patient_id twice", `"patient_id":"p-0002"`},
		{"duplicate_signature", "an earlier member signature", `"signature":"x"`},
		{"duplicate_signature_escaped", "an earlier member signature, written with an escape", `"\u0073ignature":"x"`},
		{"duplicate_unknown", "an unknown member twice", `"a":1,"a":2`},
		{"duplicate_unknown_escaped", "an unknown member twice, once written with an escape", `"a":1,"\u0061":2`},
		{"fold_spo2", "SpO2 beside spo2", `"SpO2":40`},
		{"fold_patient", "PATIENT_ID beside patient_id", `"PATIENT_ID":"p-0002"`},
		{"fold_signature", "an earlier member Signature", `"Signature":"x"`},
		{"fold_escaped", "SPO2 written with escapes", `"\u0053PO2":40`},
		{"fold_long_s", "spo2 with U+017F, which folds to s", `"ſpo2":40`},
		{"fold_long_s_escaped", "spo2 with U+017F written as an escape", `"\u017fpo2":40`},
		{"fold_long_s_timestamp", "timestamp with U+017F", `"timeſtamp":1`},
		{"fold_long_s_signature", "an earlier signature with U+017F", `"ſignature":"x"`},
	} {
		all = append(all, refuse(invalidReading, v.name, v.why, signed(added(v.member))))
	}
	all = append(all,
		refuse(invalidReading, "fold_instead", "SPO2 in place of spo2", signed(strings.Replace(text(), `"spo2"`, `"SPO2"`, 1))),
		accept("fold_none_kelvin", "U+212A folds to k, which no known name has", signed(added(`"K":1`))),
		accept("fold_none_dotless", "the dotless U+0131 does not fold to i", signed(added(`"devıce_id":1`))),
		accept("fold_none_space", "a known name with a space after it is another name", signed(added(`"spo2 ":1`))),
		accept("fold_none_unknown", "unknown names may differ in case alone", signed(added(`"a":1,"A":2`))),
	)
	for _, name := range []string{"device_id", "patient_id", "timestamp", "spo2", "heart_rate"} {
		all = append(all,
			refuse(invalidReading, "missing_"+name, "a required member is missing", signed(text(name, ""))),
			refuse(invalidReading, "null_"+name, "a required member is null", signed(text(name, "null"))))
	}
	return append(all,
		refuse(invalidReading, "null_seq", "seq may be left out, but not be null", signed(text("seq", "null"))),
		accept("missing_seq", "seq may be left out", signed(text("seq", "")), reads(func(r *vectorReading) { r.Seq = nil })),
	)
}

// idVectors are about what an id may be. The longest and strangest are used as
// the ids of a registered device.
func idVectors() []vectorEntry {
	var all []vectorEntry
	for _, v := range []struct{ name, id, why string }{
		{"id_64", strings.Repeat("w", 64), "the longest id"},
		{"id_1", "7", "the shortest id"},
		{"id_hyphen", "-", "a hyphen alone"},
		{"id_underscores", "__", "two underscores: only the single one is refused"},
		{"id_all_bytes", "azAZ09_-", "every kind of byte that an id may have"},
	} {
		signedText := text("device_id", fmt.Sprintf("%q", v.id), "patient_id", fmt.Sprintf("%q", v.id))
		all = append(all, accept(v.name, v.why, signed(signedText), on("wearables/"+v.id+"/vitals"), connected(v.id),
			registered(vectorDevice{DeviceID: v.id, PatientID: v.id, Keys: []vectorKey{{2, keyCurrent}}}),
			reads(func(r *vectorReading) { r.DeviceID, r.PatientID = v.id, v.id })))
	}
	for _, member := range []string{"device_id", "patient_id"} {
		for _, v := range []struct{ name, value, why string }{
			{"empty", `""`, "an empty id"},
			{"dot", `"w.0001"`, "a dot"},
			{"star", `"*"`, "a NATS wildcard"},
			{"greater", `">"`, "a NATS wildcard"},
			{"plus", `"+"`, "an MQTT wildcard"},
			{"slash", `"w/0001"`, "a slash"},
			{"space", `"w 0001"`, "a space"},
			{"underscore", `"_"`, "the id _ stands for none"},
			{"escaped_nul", `"w-0001\u0000"`, "a zero byte at the end, written with an escape"},
			{"not_ascii", `"wé"`, "a letter beyond ASCII"},
			{"65", `"` + strings.Repeat("w", 65) + `"`, "65 bytes"},
			{"number", `1`, "a number"},
		} {
			all = append(all, refuse(invalidReading, member+"_"+v.name, v.why, signed(text(member, v.value))))
		}
	}
	return all
}
