package config

import (
	"reflect"
	"strings"
)

// envPrefix begins the name of every environment variable that is looked at.
const envPrefix = "PULSEGATE_"

// leaf is one setting that holds a value.
type leaf struct {
	key   string // dotted
	index []int  // for reflect's FieldByIndex
	kind  reflect.Type
}

// leaves lists all settings in the order of the struct.
func leaves() []leaf {
	return appendLeaves(nil, reflect.TypeFor[Config](), "", nil)
}

func appendLeaves(found []leaf, section reflect.Type, prefix string, index []int) []leaf {
	for i := range section.NumField() {
		field := section.Field(i)
		l := leaf{
			key:   prefix + field.Tag.Get("yaml"),
			index: append(append([]int{}, index...), i),
			kind:  field.Type,
		}
		if field.Type.Kind() == reflect.Struct {
			found = appendLeaves(found, field.Type, l.key+".", l.index)
			continue
		}
		found = append(found, l)
	}
	return found
}

func findLeaf(key string) (leaf, bool) {
	for _, l := range leaves() {
		if l.key == key {
			return l, true
		}
	}
	return leaf{}, false
}

// children lists the names directly under a prefix, which is empty or ends in a dot.
func children(prefix string) []string {
	var names []string
	for _, l := range leaves() {
		rest, ok := strings.CutPrefix(l.key, prefix)
		if !ok {
			continue
		}
		name, _, _ := strings.Cut(rest, ".")
		if len(names) == 0 || names[len(names)-1] != name {
			names = append(names, name)
		}
	}
	return names
}

func (l leaf) variable() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(l.key, ".", "_"))
}

func (l leaf) secret() bool {
	return l.kind == reflect.TypeFor[Secret]() || l.kind == reflect.TypeFor[ServerURL]()
}

func (l leaf) list() bool { return l.kind.Kind() == reflect.Slice }

// value is settable.
func (l leaf) value(c *Config) reflect.Value {
	return reflect.ValueOf(c).Elem().FieldByIndex(l.index)
}

// noun names the kind of value in an error.
func (l leaf) noun() string {
	switch l.kind {
	case reflect.TypeFor[Bytes]():
		return "a size"
	case reflect.TypeFor[Duration](), reflect.TypeFor[Sync]():
		return "a duration"
	case reflect.TypeFor[bool]():
		return "true or false"
	case reflect.TypeFor[int]():
		return "a whole number"
	case reflect.TypeFor[[]string]():
		return "a list"
	}
	return "text"
}
