package reading

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// keyVectors are about checks 2 and 3.
func keyVectors() []vectorEntry {
	good := mac(keyCurrent, text())
	hash := sha256.Sum256([]byte(text()))
	flipped := good[:63] + string("0123456789abcdef"[(strings.IndexByte("0123456789abcdef", good[63])+1)%16])
	ofUnknown := text("device_id", `"w-9999"`)
	ofRevoked := text("device_id", `"w-0003"`, "patient_id", `"p-0003"`)
	keyless := registered(vectorDevice{DeviceID: "w-0001", PatientID: "p-0001", Keys: []vectorKey{}})
	return []vectorEntry{
		accept("key_previous_generation", "signed with the previous generation's key, which is still in force",
			sealed(text(), mac(keyPrevious, text())), func(e *vectorEntry) { e.Generation = 1 }),
		refuse(badSignature, "key_retired", "signed with a key that is no longer in force", sealed(text(), mac(keyRetired, text()))),
		refuse(badSignature, "key_of_another_device", "signed with the key of w-0002", sealed(text(), mac(keyOther, text()))),
		refuse(badSignature, "key_hex_as_text", "the 64 digits were used as the key, instead of the 32 bytes that they stand for",
			sealed(text(), macBytes([]byte(keyCurrent), text()))),
		refuse(badSignature, "key_empty", "signed with an empty key", sealed(text(), macBytes(nil, text()))),
		refuse(badSignature, "no_key_at_all", "the device has no key in force, and the MAC was made with an empty key",
			sealed(text(), macBytes(nil, text())), keyless),
		refuse(badSignature, "hash_without_key", "a SHA-256 hash instead of a MAC", sealed(text(), hex.EncodeToString(hash[:]))),
		refuse(badSignature, "digit_changed", "the last digit of the signature is another", sealed(text(), flipped)),
		refuse(badSignature, "zeros", "64 zeros", sealed(text(), strings.Repeat("0", 64))),
		refuse(badSignature, "value_tampered", "spo2 was changed after signing", sealed(text("spo2", "71"), good)),
		refuse(badSignature, "patient_tampered", "patient_id was changed after signing", sealed(text("patient_id", `"p-0002"`), good)),
		refuse(badSignature, "number_rewritten", "an equal number in another spelling", sealed(text("spo2", "97.0"), good)),
		refuse(badSignature, "member_added", "a member was added after signing", sealed(text("note", "1"), good)),
		refuse(badSignature, "signed_without_brace", "the } is missing from what was signed", sealed(text(), mac(keyCurrent, strings.TrimSuffix(text(), "}")))),
		refuse(badSignature, "signed_with_comma", "the comma was signed instead of the }", sealed(text(), mac(keyCurrent, strings.TrimSuffix(text(), "}")+","))),
		refuse(badSignature, "signed_with_newline", "a line feed was signed after the }", sealed(text(), mac(keyCurrent, text()+"\n"))),
		refuse(badSignature, "signed_twice", "a signed payload that was signed again as it stands, but with another key", sealed(signed(text()), mac(keyOther, signed(text())))),
		refuse(badSignature, "not_json_and_not_signed", "the signature is checked before any JSON is read", sealed(`{"spo2":}`, good)),
		refuse("unknown_device", "device_unknown", "the topic names a device that is not registered",
			sealed(ofUnknown, mac(keyCurrent, ofUnknown)), on("wearables/w-9999/vitals"), connected("w-9999")),
		refuse("unknown_device", "device_case", "ids are compared byte for byte: W-0001 is not w-0001",
			signed(text()), on("wearables/W-0001/vitals"), connected("W-0001")),
		refuse("revoked_device", "device_revoked", "a revoked device, signed with its own key",
			sealed(ofRevoked, mac(keyRevoked, ofRevoked)), on("wearables/w-0003/vitals"), connected("w-0003")),
		refuse("revoked_device", "device_revoked_bad_signature", "that it is revoked is found before the signature is looked at",
			sealed(ofRevoked, good), on("wearables/w-0003/vitals"), connected("w-0003")),
	}
}

// topicVectors are about the shape of the topic. The payload is right.
func topicVectors() []vectorEntry {
	const usual = "wearables/w-0001/vitals"
	var all []vectorEntry
	for _, t := range []struct{ name, topic, why string }{
		{"empty", "", "an empty topic"},
		{"no_level", "wearables/vitals", "no level for the device"},
		{"empty_level", "wearables//vitals", "an empty level for the device"},
		{"level_more", usual + "/1", "one level too many"},
		{"level_between", "wearables/ward/w-0001/vitals", "a level more before the device"},
		{"slash_after", usual + "/", "an empty level at the end"},
		{"slash_before", "/" + usual, "an empty level at the beginning"},
		{"beginning_only", "wearables/w-0001", "the last level is missing"},
		{"case", "Wearables/w-0001/vitals", "topics are compared byte for byte"},
		{"id_dot", "wearables/w.0001/vitals", "a dot in the id"},
		{"id_plus", "wearables/+/vitals", "an MQTT wildcard as the id"},
		{"id_hash", "wearables/#/vitals", "an MQTT wildcard as the id"},
		{"id_star", "wearables/*/vitals", "a NATS wildcard as the id"},
		{"id_greater", "wearables/>/vitals", "a NATS wildcard as the id"},
		{"id_space", "wearables/w 0001/vitals", "a space in the id"},
		{"id_underscore", "wearables/_/vitals", "the id _ stands for none"},
		{"id_not_ascii", "wearables/wé0001/vitals", "a letter beyond ASCII in the id"},
		{"id_65", "wearables/" + strings.Repeat("w", 65) + "/vitals", "an id of 65 bytes"},
		{"id_placeholder", "wearables/{device_id}/vitals", "the pattern itself"},
	} {
		all = append(all, refuse(malformed, "topic_"+t.name, t.why, signed(text()), on(t.topic)))
	}
	return append(all, accept("topic_other_pattern", "a verifier that is configured for other topics", signed(text()),
		on("ward/3/w-0001"), func(e *vectorEntry) { e.TopicPattern = new("ward/3/{device_id}") }))
}

// policyVectors are about checks 5 to 8.
func policyVectors() []vectorEntry {
	const (
		wrongDevice  = "wrong_device"
		wrongPatient = "wrong_patient"
		late         = `"2025-11-21T20:00:00Z"`
	)
	ofOther := text("device_id", `"w-0002"`, "patient_id", `"p-0002"`)
	byOther := sealed(ofOther, mac(keyOther, ofOther))
	other := on("wearables/w-0002/vitals")
	stored := func(e *vectorEntry) { e.Stored = new([]string{mac(keyCurrent, text())}) }
	return []vectorEntry{
		accept("other_device", "another device on its own topic, with its own key", byOther, other, connected("w-0002"),
			reads(func(r *vectorReading) { r.DeviceID, r.PatientID = "w-0002", "p-0002" }),
			func(e *vectorEntry) { e.Generation = 1 }),
		accept("no_connection", "from another broker there is no connection to compare with", signed(text()), connected("")),
		refuse(badSignature, "other_topic_own_key", "w-0002 signs with its own key on the topic of w-0001", byOther, connected("w-0002")),
		refuse(wrongDevice, "payload_of_other_device", "signed with the key of the topic's device, but device_id is another", signed(ofOther)),
		refuse(wrongDevice, "payload_of_other_device_no_connection", "the same where there is no connection to compare with", signed(ofOther), connected("")),
		refuse(wrongDevice, "connection_of_other_device", "the reading is right, but came over the connection of w-0002", signed(text()), connected("w-0002")),
		refuse(wrongDevice, "device_before_patient", "device and patient are both wrong: the device is compared first",
			signed(text("device_id", `"w-0002"`, "patient_id", `"p-0009"`))),
		refuse(invalidReading, "parse_before_device", "spo2 is out of range and the device is wrong: the parse comes first",
			signed(text("device_id", `"w-0002"`, "spo2", "101"))),
		refuse(wrongPatient, "patient_of_other_device", "another device's patient, signed with a true key", signed(text("patient_id", `"p-0002"`))),
		refuse(wrongPatient, "patient_unknown", "a patient that nobody has, signed with a true key", signed(text("patient_id", `"p-9999"`))),
		refuse(wrongPatient, "patient_case", "ids are compared byte for byte", signed(text("patient_id", `"P-0001"`))),
		refuse(wrongPatient, "patient_before_time", "the patient is wrong and the reading is old: the patient is compared first",
			signed(text("patient_id", `"p-0002"`, "timestamp", late))),
		refuse("stale", "old_three_hours", "an old reading", signed(text("timestamp", late))),
		refuse("duplicate", "stored_before", "the same bytes were stored before", signed(text()), stored),
		refuse("duplicate", "stored_before_upper_case", "the same reading was stored before; the case of the digits makes no other reading",
			sealed(text(), strings.ToUpper(mac(keyCurrent, text()))), stored),
		refuse("duplicate", "stored_before_white_space", "the same reading was stored before; white space in the tail makes no other reading",
			tailed(`, "signature": "HEX" }`), stored),
		accept("stored_before_other", "another reading was stored before", signed(text("seq", "43")), stored,
			reads(func(r *vectorReading) { r.Seq = new(uint64(43)) })),
		refuse(badSignature, "stored_before_tampered", "the signature of a stored reading on another text", sealed(text("spo2", "40"), mac(keyCurrent, text())), stored),
		accept("max_age_configured", "three hours old, where four are allowed", signed(text("timestamp", late)),
			readAt(1763755200000000), func(e *vectorEntry) { e.MaxAge = new(14400.0) }),
		refuse("future", "max_future_configured", "a tenth of a second ahead, where nothing is allowed", signed(text("timestamp", "1763766000.6")),
			func(e *vectorEntry) { e.MaxFuture = new(0.0) }),
	}
}
