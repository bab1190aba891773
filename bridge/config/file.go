package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxFile bounds the configuration file, in bytes: many times the full example, and small enough for the YAML parser,
// which takes quadratic time for deep nesting.
const maxFile = 32 << 10

// file reads the named file over what is there.
func (l *loader) file(name string) error {
	opened, err := os.Open(name)
	if err != nil {
		return fileError(name, err)
	}
	defer opened.Close()
	data, err := io.ReadAll(io.LimitReader(opened, maxFile+1))
	if err != nil {
		return fileError(name, err)
	}
	return l.yaml(name, data)
}

func fileError(name string, err error) error {
	problem := "cannot be read: " + err.Error()
	if path := (*fs.PathError)(nil); errors.As(err, &path) {
		problem = "cannot be read: " + path.Err.Error()
	}
	return &Error{Origin: name, Problem: "the configuration file " + problem}
}

// document is a file that is being read: its name for errors, and the loader that it fills.
type document struct {
	*loader
	name string
}

// yaml reads a file's bytes over what is there.
func (l *loader) yaml(name string, data []byte) error {
	d := document{l, name}
	if len(data) > maxFile {
		return &Error{Origin: name, Problem: fmt.Sprintf("the file is larger than %s", Bytes(maxFile))}
	}
	if !utf8.Valid(data) {
		return &Error{Origin: name, Problem: "the file is not valid UTF-8"}
	}
	// Editors on Windows begin a file with a byte order mark.
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	// Duplicate keys are found below, where the error can name them without quoting what may be a secret.
	parsed, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return d.syntax(err)
	}
	if len(parsed.Docs) > 1 {
		return &Error{Origin: name, Problem: "more than one document or a directive in the file; write one document without `---` or `%`"}
	}
	for _, doc := range parsed.Docs {
		if err := d.section("", doc.Body); err != nil {
			return err
		}
	}
	return nil
}

// syntax keeps the message and the line of the parser's error, whose full text would quote lines of the file.
func (d document) syntax(err error) error {
	var located yaml.Error
	if !errors.As(err, &located) || located.GetToken() == nil {
		return &Error{Origin: d.name, Problem: "not YAML"}
	}
	origin := fmt.Sprintf("%s:%d", d.name, located.GetToken().Position.Line)
	return &Error{Origin: origin, Problem: "not YAML: " + located.GetMessage()}
}

func (d document) at(node ast.Node) string {
	if token := node.GetToken(); token != nil && token.Position != nil {
		return fmt.Sprintf("%s:%d", d.name, token.Position.Line)
	}
	return d.name
}

// section reads a mapping; its prefix is empty or ends in a dot.
func (d document) section(prefix string, node ast.Node) error {
	var pairs []*ast.MappingValueNode
	switch node := node.(type) {
	case nil, *ast.NullNode:
		// A section whose every line is commented out.
		return nil
	case *ast.MappingNode:
		pairs = node.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{node}
	default:
		return &Error{
			Origin: d.at(node), Key: strings.TrimSuffix(prefix, "."),
			Problem: describe(node) + " where keys are expected", Allowed: strings.Join(children(prefix), ", "),
		}
	}
	seen := map[string]string{}
	for _, pair := range pairs {
		if err := d.pair(prefix, pair, seen); err != nil {
			return err
		}
	}
	return nil
}

// pair reads one key and its value; seen holds the places of the mapping's keys before it.
func (d document) pair(prefix string, pair *ast.MappingValueNode, seen map[string]string) error {
	name, ok := pair.Key.(*ast.StringNode)
	if !ok {
		return d.unknown(prefix, pair.Key, "a key that is not plain text")
	}
	if first, twice := seen[name.Value]; twice {
		return &Error{Origin: d.at(name), Problem: named("duplicate key", name.Value) + ", first at " + first}
	}
	seen[name.Value] = d.at(name)
	key := prefix + name.Value
	// A dotted name such as mqtt.listen would find a setting below.
	if !slices.Contains(children(prefix), name.Value) {
		return d.unknown(prefix, name, named("unknown key", name.Value))
	}
	if found, ok := findLeaf(key); ok {
		return d.leaf(found, pair.Value)
	}
	return d.section(key+".", pair.Value)
}

func (d document) unknown(prefix string, at ast.Node, problem string) error {
	return &Error{Origin: d.at(at), Problem: problem + "; allowed here: " + strings.Join(children(prefix), ", ")}
}

func (d document) leaf(to leaf, node ast.Node) error {
	if to.list() {
		return d.list(to, node)
	}
	text, ok := scalar(node)
	if !ok {
		d.origins[to.key] = d.at(node)
		return d.wrong(to, describe(node)+" is not "+to.noun())
	}
	return d.set(to, text, d.at(node))
}

func (d document) list(to leaf, node ast.Node) error {
	d.origins[to.key] = d.at(node)
	sequence, ok := node.(*ast.SequenceNode)
	if !ok {
		return d.wrong(to, describe(node)+" is not "+to.noun())
	}
	items := make([]string, 0, len(sequence.Values))
	for _, item := range sequence.Values {
		text, ok := scalar(item)
		if !ok {
			return d.wrong(to, describe(item)+" in the list is not text")
		}
		items = append(items, text)
	}
	to.value(&d.config).Set(reflect.ValueOf(items))
	return nil
}

// scalar is a value's text as it was written, so that a password of digits keeps its leading zero.
func scalar(node ast.Node) (string, bool) {
	switch node := node.(type) {
	case *ast.StringNode:
		return node.Value, true
	case *ast.LiteralNode:
		return node.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return node.GetToken().Value, true
	}
	return "", false
}

func describe(node ast.Node) string {
	switch node.(type) {
	case nil, *ast.NullNode:
		return "no value"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		return "an anchor, alias or tag"
	}
	return "a single value"
}
