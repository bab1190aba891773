package main

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pulsegate/pulsegate/bridge/config"
)

var (
	settingName  = regexp.MustCompile(`^[a-z_]+(\.[a-z_*]+)+(: |$)`)
	variableName = regexp.MustCompile(`\bPULSEGATE_[A-Z_]*[A-Z]`)
	metricName   = regexp.MustCompile(`^pulsegate_[a-z_]+…?`)
	folderName   = regexp.MustCompile(`^(bridge|cmd|configs|docs|device-sim|\.ci)/[^\s*]+`)
)

// TestNamesInPages looks up settings, environment variables, metrics and files.
func TestNamesInPages(t *testing.T) {
	for kind, names := range map[string]struct {
		in    func(code string) []string
		wrong func(t *testing.T, name string) error
		least int // so many that something is checked
	}{
		"environment variable": {func(code string) []string { return variableName.FindAllString(code, -1) }, wrongVariable, 4},
		"metric":               {func(code string) []string { return metricName.FindAllString(code, -1) }, wrongMetric, 50},
		"file":                 {func(code string) []string { return folderName.FindAllString(code, -1) }, wrongFile, 40},
		"setting":              {settingsIn, wrongSetting, 60},
	} {
		t.Run(kind, func(t *testing.T) {
			found := 0
			for _, p := range pages(t) {
				for _, code := range p.codes() {
					for _, name := range names.in(code) {
						found++
						if err := names.wrong(t, name); err != nil {
							t.Errorf("%s: `%s`: %v", p.name, name, err)
						}
					}
				}
			}
			if found < names.least {
				t.Errorf("only %d are named", found)
			}
		})
	}
}

func wrongVariable(_ *testing.T, name string) error {
	_, err := config.Load(config.Sources{Environ: []string{"HOME=/", name + "="}, Allow: verbVariables()})
	return err
}

// wrongMetric looks into the table that the tests of bridge compare with a gate.
func wrongMetric(t *testing.T, name string) error {
	text, err := os.ReadFile(filepath.Join(repository, "docs", "operations.md"))
	must(t, err)
	row := "\n| `" + name
	if shared, several := strings.CutSuffix(name, "…"); several {
		row = "\n| `" + shared
	} else {
		row += "` |"
	}
	if !strings.Contains(string(text), row) {
		return errors.New("it is not in the table of docs/operations.md")
	}
	return nil
}

func wrongFile(_ *testing.T, name string) error {
	_, err := os.Stat(filepath.Join(repository, name))
	return err
}

// settingsIn leaves out files, subjects and functions, which are spelled alike.
func settingsIn(code string) []string {
	name := strings.TrimSuffix(settingName.FindString(code), ": ")
	section, _, _ := strings.Cut(name, ".")
	if name == "" || slices.Contains(foreign(), name) || !slices.Contains(sections(), section) {
		return nil
	}
	return []string{name}
}

// sections are the first words of all settings.
func sections() []string {
	var all []string
	fields := reflect.TypeFor[config.Config]()
	for i := range fields.NumField() {
		all = append(all, fields.Field(i).Tag.Get("yaml"))
	}
	return all
}

// wrongSetting lets the service read one, without a value.
func wrongSetting(t *testing.T, name string) error {
	text := strings.ReplaceAll(strings.ReplaceAll(name, "*", "vitals"), ".", ": {") + ": null"
	err := loads(t, text+strings.Repeat("}", strings.Count(text, "{")))
	if err != nil && strings.Contains(err.Error(), "unknown key") {
		return err
	}
	return nil
}
