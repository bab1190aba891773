package bridge_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rs/zerolog"
)

// TestLogFieldsAreListed holds the fields that the service logs against the table
// of docs/operations.md, in both directions: who filters by them must be able to
// rely on it.
func TestLogFieldsAreListed(t *testing.T) {
	text, err := os.ReadFile("../docs/operations.md")
	must(t, err)
	_, section, _ := strings.Cut(string(text), "\n## Logs\n")
	section, _, _ = strings.Cut(section, "\n## ")
	listed := make(map[string]bool)
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*`) \\|").FindAllStringSubmatch(section, -1) {
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			listed[name[1]] = true
		}
	}
	logged := loggedFields(t)
	if len(logged) < 10 {
		t.Fatalf("only %d fields were found in the code: %v", len(logged), logged)
	}
	for name, where := range logged {
		if !listed[name] {
			t.Errorf("%s: the field %q is not in the table of docs/operations.md", where, name)
		}
		delete(listed, name)
	}
	for name := range listed {
		t.Errorf("docs/operations.md lists the field %q, which nobody logs", name)
	}
}

// loggedFields returns the literal names of fields in chains of zerolog's
// methods, with a place where each is used.
func loggedFields(t *testing.T) map[string]string {
	t.Helper()
	found := make(map[string]string)
	for _, root := range []string{".", "../cmd"} {
		must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			files := token.NewFileSet()
			file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
			must(t, err)
			ast.Inspect(file, func(n ast.Node) bool {
				if name, ok := logField(n); ok {
					found[name] = files.Position(n.Pos()).String()
				}
				return true
			})
			return nil
		}))
	}
	return found
}

// logField says which field a call adds, if it stands in a chain that begins with
// a level or With, or with an event that somebody else has begun.
func logField(n ast.Node) (name string, ok bool) {
	begins := []string{"Trace", "Debug", "Info", "Warn", "Error", "Fatal", "WithLevel", "With"}
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return "", false
	}
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return "", false
	}
	if method.Sel.Name == "Err" && len(call.Args) == 1 {
		return zerolog.ErrorFieldName, true
	}
	if len(call.Args) < 2 {
		return "", false
	}
	literal, ok := call.Args[0].(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return "", false
	}
	for receiver := method.X; ; {
		if begun, ok := receiver.(*ast.Ident); ok && (begun.Name == "e" || begun.Name == "event") {
			name, err := strconv.Unquote(literal.Value)
			return name, err == nil
		}
		previous, ok := receiver.(*ast.CallExpr)
		if !ok {
			return "", false
		}
		selector, ok := previous.Fun.(*ast.SelectorExpr)
		if !ok {
			return "", false
		}
		if slices.Contains(begins, selector.Sel.Name) {
			name, err := strconv.Unquote(literal.Value)
			return name, err == nil
		}
		receiver = selector.X
	}
}
