package configs_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

type rule struct {
	Alert       string
	Expr        string
	Labels      map[string]string
	Annotations map[string]string
}

func rules(t *testing.T) (all []rule) {
	t.Helper()
	var file struct{ Groups []struct{ Rules []rule } }
	if err := yaml.Unmarshal([]byte(read(t, "prometheus/rules.yml")), &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// runbook are the paragraphs of the section "Alerts", by their headings.
func runbook(t *testing.T) map[string]string {
	t.Helper()
	_, section, found := strings.Cut(read(t, "../docs/operations.md"), "\n## Alerts\n")
	if !found {
		t.Fatal("docs/operations.md has no section Alerts")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	paragraphs := map[string]string{}
	for _, part := range strings.Split(section, "\n### ")[1:] {
		name, text, _ := strings.Cut(part, "\n")
		paragraphs[name] = strings.TrimSpace(text)
	}
	return paragraphs
}

func TestEveryAlertHasARunbook(t *testing.T) {
	paragraphs := runbook(t)
	for _, r := range rules(t) {
		// The anchor of a heading is the heading in small letters.
		if want := "docs/operations.md#" + strings.ToLower(r.Alert); r.Annotations["runbook"] != want {
			t.Errorf("%s: the runbook is %q, want %q", r.Alert, r.Annotations["runbook"], want)
		}
		if paragraphs[r.Alert] == "" {
			t.Errorf("docs/operations.md says nothing under %s", r.Alert)
		}
		delete(paragraphs, r.Alert)
		if s := r.Labels["severity"]; s != "critical" && s != "warning" || len(r.Labels) != 1 {
			t.Errorf("%s has labels %v, want a severity of critical or warning", r.Alert, r.Labels)
		}
		if r.Annotations["summary"] == "" || len(r.Annotations) != 2 {
			t.Errorf("%s has annotations %v, want summary and runbook", r.Alert, r.Annotations)
		}
	}
	for name := range paragraphs {
		t.Errorf("docs/operations.md has a paragraph on %s, which is no alert", name)
	}
}

// Each alert is tested: that it fires, that it is quiet before, and that two
// healthy replicas do not raise it. What promtool finds is the gate's test.
func TestEveryAlertHasTests(t *testing.T) {
	var file struct {
		Tests []struct {
			Alerts []struct {
				Name     string `yaml:"alertname"`
				Expected []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, "prometheus/rules_test.yml")), &file); err != nil {
		t.Fatal(err)
	}
	fires, quiet := map[string]int{}, map[string]int{}
	for _, one := range file.Tests {
		for _, a := range one.Alerts {
			if len(a.Expected) > 0 {
				fires[a.Name]++
			} else {
				quiet[a.Name]++
			}
		}
	}
	for _, r := range rules(t) {
		if fires[r.Alert] == 0 || quiet[r.Alert] < 2 {
			t.Errorf("%s: %d tests in which it fires, want one; %d in which it does not, want two", r.Alert, fires[r.Alert], quiet[r.Alert])
		}
	}
}

type place struct{ X, Y, W, H int }

func (p place) overlaps(o place) bool {
	return p.X < o.X+o.W && o.X < p.X+p.W && p.Y < o.Y+o.H && o.Y < p.Y+p.H
}

type source struct{ Type, UID string }

type panel struct {
	ID         int
	Type       string
	Title      string
	GridPos    place
	Datasource source
	Targets    []struct {
		Expr       string
		RefID      string
		Datasource source
	}
}

type dashboard struct {
	UID           string
	SchemaVersion int
	Panels        []panel
	Templating    struct {
		List []struct {
			Name    string
			Current struct{ Value any }
		}
	}
}

func board(t *testing.T) (d dashboard) {
	t.Helper()
	if err := json.Unmarshal([]byte(read(t, "grafana/dashboards/pulsegate.json")), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDashboardIsWhole(t *testing.T) {
	d := board(t)
	want := source{"prometheus", "${datasource}"}
	for i, p := range d.Panels {
		for _, o := range d.Panels[:i] {
			if p.ID == o.ID || p.GridPos.overlaps(o.GridPos) {
				t.Errorf("%q and %q have one id or overlap", p.Title, o.Title)
			}
		}
		if p.GridPos.X+p.GridPos.W > 24 || p.Title == "" {
			t.Errorf("%q is wider than a dashboard, or has no title", p.Title)
		}
		if p.Type == "row" {
			continue
		}
		if p.Datasource != want || len(p.Targets) == 0 {
			t.Errorf("%q has the data source %v and %d queries", p.Title, p.Datasource, len(p.Targets))
		}
		for _, q := range p.Targets {
			if q.Datasource != want || q.Expr == "" || q.RefID == "" {
				t.Errorf("%q has the query %+v", p.Title, q)
			}
		}
	}
	if d.UID == "" || d.SchemaVersion == 0 || len(d.Templating.List) != 2 || d.Templating.List[0].Current.Value != "prometheus" {
		t.Errorf("the dashboard is %q of schema %d with the variables %v", d.UID, d.SchemaVersion, d.Templating.List)
	}
}

func TestDashboardHasTheRows(t *testing.T) {
	var rows []string
	for _, p := range board(t).Panels {
		if p.Type == "row" {
			rows = append(rows, p.Title)
		}
	}
	want := []string{"What passes and what is refused", "Latency", "Store", "Connections and attack", "Replicas", "Registry", "Runtime"}
	if !slices.Equal(rows, want) {
		t.Errorf("the rows are %q, want %q", rows, want)
	}
}

// What alerts and dashboard ask for is a metric that the documentation has.
func TestOnlyMetricsThatThereAre(t *testing.T) {
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(pulsegate_\\w+)` \\|").FindAllStringSubmatch(read(t, "../docs/operations.md"), -1) {
		documented[m[1]] = true
	}
	var queries []string
	for _, r := range rules(t) {
		queries = append(queries, r.Expr)
	}
	for _, p := range board(t).Panels {
		for _, q := range p.Targets {
			queries = append(queries, q.Expr)
		}
	}
	suffix := regexp.MustCompile(`_(bucket|sum|count)$`)
	for _, q := range queries {
		for _, name := range regexp.MustCompile(`\bpulsegate_\w+`).FindAllString(q, -1) {
			if !documented[name] && !documented[suffix.ReplaceAllString(name, "")] {
				t.Errorf("%s is no metric, in %s", name, q)
			}
		}
	}
}
