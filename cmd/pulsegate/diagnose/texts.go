package diagnose

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
)

// text is something that may have been signed, and by which slips.
type text struct {
	bytes []byte
	slips []Slip
}

// permuted is the most members whose every order is tried: 5,040 orders.
const permuted = 7

func (d document) variants() []text {
	right := text{bytes: d.right()}
	all := ends(nil, right)
	for _, b := range d.whiteSpace() {
		all = ends(all, text{b, []Slip{{WhiteSpace, true,
			"the signature is of the same members with other white space than was sent",
			"sign the very bytes that are sent: build the text once, sign it, append the signature to it"}}})
	}
	for _, b := range d.signatures() {
		all = ends(all, text{b, []Slip{{SignatureSigned, true,
			"the signed text had a signature member, or the comma before it",
			"sign the object before it has a signature member"}}})
	}
	return all
}

// ends adds a text, and that text with what is often missing or too much at its
// ends.
func ends(all []text, t text) []text {
	with := func(b []byte, name, found, remedy string) text {
		return text{b, append(slices.Clone(t.slips), Slip{name, true, found, remedy})}
	}
	all = append(all, t)
	if body, ok := bytes.CutSuffix(t.bytes, []byte{'}'}); ok {
		all = append(all, with(body, BraceNotSigned, "the closing brace was not signed", "sign the text with its closing brace, then replace that brace by the signature member"))
	}
	for _, end := range []struct{ bytes, name string }{{"\n", "a line feed"}, {"\r\n", "a carriage return and line feed"}, {"\x00", "the zero byte that ends a C string"}} {
		all = append(all, with(join(t.bytes, []byte(end.bytes)), EndSigned, end.name+" after the closing brace was signed too",
			"sign up to the closing brace: printf '%s' instead of echo, strlen instead of sizeof"))
	}
	return append(all, with(join([]byte("\ufeff"), t.bytes), ByteOrderMark, "a byte order mark was signed", "sign UTF-8 without one"))
}

// whiteSpace lists the usual ways to lay out the members in their order.
func (d document) whiteSpace() [][]byte {
	all := [][]byte{d.cut()}
	all = append(all, layouts(d.others())...)
	for _, b := range [][]byte{d.right(), d.cut()} {
		lf := bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
		all = append(all, lf, bytes.ReplaceAll(lf, []byte("\n"), []byte("\r\n")))
	}
	return all
}

// layouts writes members as the usual libraries do: compact, as Python's
// json.dumps, indented by 2, 4 or a tab.
func layouts(members []member) [][]byte {
	compact := layout(members, ",", ":")
	all := [][]byte{compact, layout(members, ", ", ": "), layout(members, ",", ": ")}
	for _, indent := range []string{"  ", "    ", "\t"} {
		var b bytes.Buffer
		if json.Indent(&b, compact, "", indent) == nil {
			all = append(all, b.Bytes())
		}
	}
	return all
}

func layout(members []member, comma, colon string) []byte {
	parts := make([][]byte, len(members))
	for i, m := range members {
		parts[i] = join(m.name, []byte(colon), m.value)
	}
	return join([]byte{'{'}, bytes.Join(parts, []byte(comma)), []byte{'}'})
}

// signatures lists texts in which the signature's place is held already.
func (d document) signatures() [][]byte {
	all := [][]byte{
		d.filled(`""`), d.filled("null"), d.filled(`"` + strings.Repeat("0", 64) + `"`),
		layout(d.replaced(`""`), ",", ":"), layout(d.replaced(`""`), ", ", ": "), layout(d.replaced("null"), ",", ":"), layout(d.replaced("null"), ", ", ": "),
	}
	if body, ok := bytes.CutSuffix(d.right(), []byte{'}'}); ok {
		all = append(all, join(body, []byte(",")), join(body, []byte(",}")), join(body, []byte(`,"signature":"`)))
	}
	return all
}

func (d document) replaced(value string) []member {
	all := slices.Clone(d.members)
	all[d.signature].value = []byte(value)
	return all
}

// reordered lists the members in other orders than the one that was sent.
func (d document) reordered() []text {
	others := d.others()
	slip := func(order []member) []Slip {
		names := make([]string, len(order))
		for i, m := range order {
			names[i] = string(m.name)
		}
		return []Slip{{MemberOrder, true,
			"the members were signed in the order " + strings.Join(names, ", ") + ", which is not the one that was sent",
			"send the very bytes that were signed, and append the signature to them as text"}}
	}
	var all []text
	take := func(order []member) {
		for _, b := range [][]byte{layout(order, ",", ":"), layout(order, ", ", ": ")} {
			all = append(all, text{b, slip(order)})
		}
	}
	sorted := slices.Clone(others)
	slices.SortStableFunc(sorted, func(a, b member) int { return strings.Compare(a.label(), b.label()) })
	for _, b := range layouts(sorted) {
		all = ends(all, text{b, slip(sorted)})
	}
	if len(others) <= permuted {
		permute(slices.Clone(others), 0, take)
	}
	return all
}

// permute calls take with every order of all[from:]; take must not keep it.
func permute(all []member, from int, take func([]member)) {
	if from >= len(all)-1 {
		take(all)
		return
	}
	for i := from; i < len(all); i++ {
		all[from], all[i] = all[i], all[from]
		permute(all, from+1, take)
		all[from], all[i] = all[i], all[from]
	}
}
