package bridge_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	linkInPage = regexp.MustCompile(`\[([^\]]*)\]\(([^)]+)\)`)
	testName   = regexp.MustCompile(`\b(Test|Fuzz|Benchmark)[A-Z]\w*`)
	// shownBy is a row of a table whose last column names tests.
	shownBy = regexp.MustCompile(`(?m)^\|.*\| shown by \|$`)
)

// TestThreatModelNamesRealTests: every link leads somewhere, every test that is
// named is a link to the file that it is in, and no claim is without one.
func TestThreatModelNamesRealTests(t *testing.T) {
	page, err := os.ReadFile("../docs/threat-model.md")
	must(t, err)
	text := string(page)
	links := linkInPage.FindAllStringSubmatch(text, -1)
	tests := 0
	for _, link := range links {
		name, path := link[1], link[2]
		if strings.Contains(path, "://") {
			continue
		}
		path, _, _ = strings.Cut(path, "#")
		target, err := os.ReadFile(filepath.Join("../docs", path))
		if err != nil {
			t.Errorf("%s leads nowhere: %v", link[0], err)
			continue
		}
		if testName.FindString(name) != name {
			continue
		}
		tests++
		if !strings.HasSuffix(path, "_test.go") || !strings.Contains(string(target), "\nfunc "+name+"(") {
			t.Errorf("%s is not in %s", name, path)
		}
	}
	if tests < 50 {
		t.Errorf("%d tests are named, so that hardly anything is checked", tests)
	}
	for _, name := range testName.FindAllString(linkInPage.ReplaceAllString(text, ""), -1) {
		t.Errorf("%s is named without a link to its file", name)
	}
	checkTables(t, text)
}

// checkTables wants a test in every row that claims something.
func checkTables(t *testing.T, text string) {
	t.Helper()
	tables := shownBy.FindAllStringIndex(text, -1)
	if len(tables) < 7 {
		t.Errorf("%d tables of claims", len(tables))
	}
	for _, at := range tables {
		rows := strings.Split(text[at[1]+1:], "\n")[1:] // after the line below the head
		for _, row := range rows {
			if !strings.HasPrefix(row, "|") {
				break
			}
			cells := strings.Split(strings.Trim(row, "|"), "|")
			if !testName.MatchString(cells[len(cells)-1]) {
				t.Errorf("no test shows\n%s", row)
			}
		}
	}
}
