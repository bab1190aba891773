package reading

import "strings"

// numberVectors are about spo2, heart_rate and seq.
func numberVectors() []vectorEntry {
	spo2 := func(f float64) option { return reads(func(r *vectorReading) { r.SpO2 = f }) }
	rate := func(f float64) option { return reads(func(r *vectorReading) { r.HeartRate = f }) }
	seq := func(n uint64) option { return reads(func(r *vectorReading) { r.Seq = &n }) }
	all := []vectorEntry{
		accept("spo2_0", "the lower end", signed(text("spo2", "0")), spo2(0)),
		accept("spo2_100", "the upper end", signed(text("spo2", "100")), spo2(100)),
		accept("spo2_fraction", "a fraction", signed(text("spo2", "96.5")), spo2(96.5)),
		accept("spo2_exponent", "an exponent", signed(text("spo2", "9.65E+1")), spo2(96.5)),
		accept("spo2_exponent_negative", "a negative exponent", signed(text("spo2", "9650e-2")), spo2(96.5)),
		accept("spo2_minus_zero", "-0 equals 0", signed(text("spo2", "-0")), spo2(0)),
		accept("spo2_tiny", "too small for binary64, which makes it 0", signed(text("spo2", "1e-400")), spo2(0)),
		accept("spo2_long", "300 digits after the point", signed(text("spo2", "97."+strings.Repeat("0", 300))), spo2(97)),
		accept("heart_rate_0", "the lower end", signed(text("heart_rate", "0")), rate(0)),
		accept("heart_rate_350", "the upper end", signed(text("heart_rate", "350")), rate(350)),
		accept("heart_rate_fraction", "a fraction", signed(text("heart_rate", "72.25")), rate(72.25)),
		accept("seq_0", "the lower end", signed(text("seq", "0")), seq(0)),
		accept("seq_largest", "the upper end, 2^53 - 1", signed(text("seq", "9007199254740991")), seq(9007199254740991)),
	}
	for _, v := range []struct{ name, member, value, why string }{
		{"spo2_over", "spo2", "100.1", "above the upper end"},
		{"spo2_over_least", "spo2", "100.00000000000002", "above the upper end by the least that binary64 can tell"},
		{"spo2_negative", "spo2", "-1", "below the lower end"},
		{"spo2_negative_least", "spo2", "-1e-300", "below the lower end by very little"},
		{"spo2_string", "spo2", `"97"`, "a number as a string"},
		{"spo2_true", "spo2", "true", "a boolean"},
		{"spo2_huge", "spo2", "1e400", "beyond binary64"},
		{"spo2_huge_exponent", "spo2", "1e99999999999999999999", "an exponent that is itself huge"},
		{"spo2_300_digits", "spo2", "1" + strings.Repeat("0", 300), "10^300 in digits"},
		{"spo2_nan", "spo2", "NaN", "NaN is not JSON"},
		{"spo2_infinity", "spo2", "Infinity", "Infinity is not JSON"},
		{"spo2_leading_zero", "spo2", "097", "a leading zero is not JSON"},
		{"spo2_leading_plus", "spo2", "+97", "a plus sign is not JSON"},
		{"spo2_leading_point", "spo2", ".97", "a number cannot begin with its point"},
		{"spo2_trailing_point", "spo2", "97.", "a number cannot end with its point"},
		{"spo2_hexadecimal", "spo2", "0x61", "hexadecimal is not JSON"},
		{"spo2_underscore", "spo2", "9_7", "an underscore in a number is not JSON"},
		{"heart_rate_over", "heart_rate", "350.5", "above the upper end"},
		{"heart_rate_negative", "heart_rate", "-72", "below the lower end"},
		{"heart_rate_string", "heart_rate", `"72"`, "a number as a string"},
		{"heart_rate_huge", "heart_rate", "1e400", "beyond binary64"},
		{"seq_negative", "seq", "-1", "below the lower end"},
		{"seq_minus_zero", "seq", "-0", "seq is written in digits only"},
		{"seq_fraction", "seq", "42.0", "seq is written in digits only"},
		{"seq_exponent", "seq", "4.2e1", "seq is written in digits only"},
		{"seq_exponent_integer", "seq", "42e0", "seq is written in digits only"},
		{"seq_string", "seq", `"42"`, "a number as a string"},
		{"seq_true", "seq", "true", "a boolean"},
		{"seq_over", "seq", "9007199254740992", "2^53, which not every JSON implementation keeps exactly"},
		{"seq_huge", "seq", strings.Repeat("9", 300), "300 digits"},
	} {
		all = append(all, refuse(invalidReading, v.name, v.why, signed(text(v.member, v.value))))
	}
	return all
}

// timestampVectors are about the forms of a timestamp and about check 7. The
// default time is 2025-11-21T23:00:00.5Z, which is 1763766000.5.
func timestampVectors() []vectorEntry {
	const now = 1763766000500000
	var all []vectorEntry
	for _, v := range []struct {
		name, value string
		at          int64
		why         string
	}{
		{"number_integer", "1763766000", now - 500000, "whole seconds"},
		{"number_microseconds", "1763766000.123456", now - 376544, "microseconds"},
		{"number_nanoseconds", "1763766000.123456789", now - 376543, "rounded to the nearest microsecond"},
		{"number_exponent", "1.763766000123e9", now - 377000, "a NumericDate may have an exponent"},
		{"string_utc", `"2025-11-21T23:00:00Z"`, now - 500000, "RFC 3339 in UTC"},
		{"string_fraction", `"2025-11-21T23:00:00.123Z"`, now - 377000, "a fraction"},
		{"string_fraction_1", `"2025-11-21T23:00:00.1Z"`, now - 400000, "a fraction of one digit"},
		{"string_fraction_12", `"2025-11-21T23:00:00.123456789012Z"`, now - 376543, "twelve digits, rounded to the nearest microsecond"},
		{"string_offset", `"2025-11-22T00:00:00.123+01:00"`, now - 377000, "an offset to the east, on the next day"},
		{"string_offset_west", `"2025-11-21T13:30:00.123-09:30"`, now - 377000, "an offset to the west"},
		{"string_offset_zero", `"2025-11-21T23:00:00.123+00:00"`, now - 377000, "an offset of zero"},
		{"string_offset_minus_zero", `"2025-11-21T23:00:00.123-00:00"`, now - 377000, "UTC with the local offset unknown"},
		{"string_offset_largest", `"2025-11-22T22:59:00.123+23:59"`, now - 377000, "the largest offset"},
		{"string_escaped", `"2025-11-21\u005423:00:00.123Z"`, now - 377000, "written with an escape"},
		{"age_largest", "1763765940.5", now - 60e6, "exactly max_age old"},
		{"age_largest_string", `"2025-11-21T22:59:00.5Z"`, now - 60e6, "exactly max_age old, as a string"},
		{"age_rounded", `"2025-11-21T22:59:00.4999996Z"`, now - 60e6, "max_age old once it is rounded to the nearest microsecond"},
		{"future_largest", "1763766005.5", now + 5e6, "exactly max_future ahead"},
		{"future_largest_string", `"2025-11-21T23:00:05.5Z"`, now + 5e6, "exactly max_future ahead, as a string"},
	} {
		all = append(all, accept("timestamp_"+v.name, v.why, signed(text("timestamp", v.value)), readAt(v.at)))
	}
	for _, v := range []struct{ outcome, name, value, why string }{
		{"stale", "age_over", "1763765940.499999", "max_age and a microsecond old"},
		{"stale", "age_over_string", `"2025-11-21T22:59:00.499999Z"`, "max_age and a microsecond old, as a string"},
		{"stale", "age_over_rounded", `"2025-11-21T22:59:00.4999994Z"`, "rounded, it is max_age and a microsecond old"},
		{"stale", "zero", "0", "the beginning of 1970"},
		{"stale", "minus_zero", "-0", "-0 equals 0"},
		{"stale", "string_zero", `"1970-01-01T00:00:00Z"`, "the beginning of 1970, as a string"},
		{"future", "future_over", "1763766005.500001", "max_future and a microsecond ahead"},
		{"future", "future_over_string", `"2025-11-21T23:00:05.500001Z"`, "max_future and a microsecond ahead, as a string"},
		{"future", "largest", "253402300799", "the last second of the year 9999"},
		{"future", "string_largest", `"9999-12-31T23:59:59Z"`, "the last second of the year 9999, as a string"},
	} {
		all = append(all, refuse(v.outcome, "timestamp_"+v.name, v.why, signed(text("timestamp", v.value))))
	}
	for _, v := range []struct{ name, value, why string }{
		{"milliseconds", "1763766000123", "milliseconds instead of seconds"},
		{"microseconds", "1763766000123456", "microseconds instead of seconds"},
		{"negative", "-1", "before 1970"},
		{"over", "253402300800", "the year 10000"},
		{"over_fraction", "253402300799.5", "after the last second of the year 9999"},
		{"huge", "1e400", "beyond binary64"},
		{"300_digits", strings.Repeat("9", 300), "300 digits"},
		{"true", "true", "a boolean"},
		{"number_as_string", `"1763766000.123"`, "a number as a string"},
		{"string_empty", `""`, "an empty string"},
		{"string_no_zone", `"2025-11-21T23:00:00.123"`, "no zone"},
		{"string_lower_z", `"2025-11-21T23:00:00z"`, "z in lower case"},
		{"string_lower_t", `"2025-11-21t23:00:00Z"`, "t in lower case"},
		{"string_space", `"2025-11-21 23:00:00Z"`, "a space instead of T"},
		{"string_date_only", `"2025-11-21"`, "a date alone"},
		{"string_no_seconds", `"2025-11-21T23:00Z"`, "no seconds"},
		{"string_basic", `"20251121T230000Z"`, "ISO 8601's basic form"},
		{"string_leap_second", `"2025-11-21T23:00:60Z"`, "a leap second has no NumericDate"},
		{"string_leap_second_real", `"2016-12-31T23:59:60Z"`, "a leap second that there was has no NumericDate either"},
		{"string_hour_24", `"2025-11-21T24:00:00Z"`, "hour 24"},
		{"string_hour_short", `"2025-11-21T9:00:00Z"`, "an hour of one digit"},
		{"string_minute_60", `"2025-11-21T23:60:00Z"`, "minute 60"},
		{"string_month_13", `"2025-13-21T23:00:00Z"`, "month 13"},
		{"string_day_30_february", `"2025-02-30T23:00:00Z"`, "30 February"},
		{"string_day_29_february", `"2025-02-29T23:00:00Z"`, "29 February of a year that has none"},
		{"string_fraction_comma", `"2025-11-21T23:00:00,123Z"`, "a comma before the fraction"},
		{"string_fraction_empty", `"2025-11-21T23:00:00.Z"`, "a point without digits"},
		{"string_offset_short", `"2025-11-22T00:00:00+01"`, "an offset without minutes"},
		{"string_offset_no_colon", `"2025-11-22T00:00:00+0100"`, "an offset without a colon"},
		{"string_offset_24", `"2025-11-22T23:00:00+24:00"`, "an offset of 24 hours"},
		{"string_offset_minute_60", `"2025-11-22T00:00:00+00:60"`, "an offset with minute 60"},
		{"string_zone_name", `"2025-11-21T23:00:00UTC"`, "a zone's name"},
		{"string_space_after", `"2025-11-21T23:00:00Z "`, "a space after it"},
		{"string_before_1970", `"1969-12-31T23:59:59.999Z"`, "before 1970"},
		{"string_offset_before_1970", `"1970-01-01T00:00:00+00:01"`, "before 1970 by its offset"},
		{"string_offset_year_10000", `"9999-12-31T23:59:59-00:01"`, "after the year 9999 by its offset"},
		{"string_year_5_digits", `"12025-11-21T23:00:00Z"`, "a year of five digits"},
		{"string_digits_not_ascii", `"２０２５-11-21T23:00:00Z"`, "digits beyond ASCII"},
	} {
		all = append(all, refuse(invalidReading, "timestamp_"+v.name, v.why, signed(text("timestamp", v.value))))
	}
	return all
}
