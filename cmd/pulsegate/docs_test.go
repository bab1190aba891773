package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pulsegate/pulsegate/bridge/config"
)

// repository is where the pages' names begin.
const repository = "../.."

// page is README.md or one of docs.
type page struct {
	name  string // README.md, docs/keys.md
	prose string // what is outside of fences
	// examples are the fenced blocks, in order.
	examples []example
}

type example struct{ language, text string }

func pages(t *testing.T) []page {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(repository, "docs", "*.md"))
	must(t, err)
	if len(names) < 10 {
		t.Fatalf("only %d pages in docs", len(names))
	}
	var all []page
	for _, name := range append(names, filepath.Join(repository, "README.md")) {
		text, err := os.ReadFile(name)
		must(t, err)
		name, err = filepath.Rel(repository, name)
		must(t, err)
		all = append(all, readPage(t, filepath.ToSlash(name), string(text)))
	}
	return all
}

func readPage(t *testing.T, name, text string) page {
	t.Helper()
	p := page{name: name}
	parts := strings.Split("\n"+text, "\n```")
	if len(parts)%2 == 0 {
		t.Fatalf("%s: a fence is not closed", name)
	}
	for i, part := range parts {
		if i%2 == 0 {
			p.prose += part
			continue
		}
		language, text, _ := strings.Cut(part, "\n")
		p.examples = append(p.examples, example{language, text + "\n"})
	}
	return p
}

// of returns the page's examples in a language.
func (p page) of(language string) []string {
	var texts []string
	for _, e := range p.examples {
		if e.language == language {
			texts = append(texts, e.text)
		}
	}
	return texts
}

// TestEveryExampleIsLookedAt: a block of a language that nothing here looks at
// would be no better than one without.
func TestEveryExampleIsLookedAt(t *testing.T) {
	// sh, go, csv and conf are run by TestExamplesRun, text by nobody; the ABNF is
	// that of RFC 5234, for people.
	known := []string{"sh", "go", "csv", "conf", "json", "yaml", "text", "abnf"}
	for _, p := range pages(t) {
		for _, e := range p.examples {
			if !slices.Contains(known, e.language) {
				t.Errorf("%s: nothing looks at a block in %q:\n%s", p.name, e.language, e.text)
			}
		}
		for _, text := range p.of("json") {
			if !json.Valid([]byte(text)) {
				t.Errorf("%s: this is no JSON:\n%s", p.name, text)
			}
		}
		for _, text := range p.of("yaml") {
			if err := loads(t, text); err != nil {
				t.Errorf("%s: %v in:\n%s", p.name, err, text)
			}
		}
	}
}

// loads says whether the service could be started with that configuration.
func loads(t *testing.T, text string) error {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pulsegate.yaml")
	must(t, os.WriteFile(file, []byte(text), 0o600))
	_, err := config.Load(config.Sources{File: file, Environ: []string{"HOME=" + t.TempDir()}})
	return err
}

var (
	inlineCode = regexp.MustCompile("`[^`\n]+`")
	pageLink   = regexp.MustCompile(`\[[^\]]*\]\(([^)\s]+)\)`)
	heading    = regexp.MustCompile(`(?m)^#+ (.*)$`)
	noAnchor   = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// anchors are those that GitHub makes of a page's headings.
func (p page) anchors() []string {
	var all []string
	for _, h := range heading.FindAllStringSubmatch(p.prose, -1) {
		text := noAnchor.ReplaceAllString(strings.ToLower(strings.TrimSpace(h[1])), "")
		all = append(all, strings.ReplaceAll(text, " ", "-"))
	}
	return all
}

func TestLinksOfPages(t *testing.T) {
	checked := 0
	for _, p := range pages(t) {
		for _, link := range pageLink.FindAllStringSubmatch(inlineCode.ReplaceAllString(p.prose, "code"), -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			checked++
			if err := p.follow(t, link[1]); err != nil {
				t.Errorf("%s: %s leads nowhere: %v", p.name, link[0], err)
			}
		}
	}
	if checked < 100 {
		t.Errorf("only %d links within the repository", checked)
	}
}

// follow looks for the file of a link, and in a page for its heading.
func (p page) follow(t *testing.T, link string) error {
	t.Helper()
	path, anchor, anchored := strings.Cut(link, "#")
	target := filepath.Join(repository, filepath.Dir(p.name), path)
	if path == "" {
		target = filepath.Join(repository, p.name)
	}
	if _, err := os.Stat(target); err != nil || !anchored {
		return err
	}
	text, err := os.ReadFile(target)
	if err != nil {
		return err
	}
	if !slices.Contains(readPage(t, path, string(text)).anchors(), anchor) {
		return errors.New("there is no such heading")
	}
	return nil
}
