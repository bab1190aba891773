package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// notRun are the lines of blocks in text that would be commands of ours, and why
// they are not in a block in sh.
func notRun() map[string]string {
	return map[string]string{
		"pulsegate doctor --config /etc/pulsegate/pulsegate.yaml --data /var/lib/pulsegate": "it looks at a unit that systemd runs",
	}
}

// foreign are flags and settings of other programs.
func foreign() []string {
	return []string{"--server", "mqtt.session_expiry_interval", "mqtt.max_mqueue_len", "mqtt.max_inflight"}
}

// codes are what a page shows between backticks, and the lines of its blocks.
func (p page) codes() []string {
	var all []string
	for _, code := range inlineCode.FindAllString(p.prose, -1) {
		all = append(all, strings.Trim(code, "`"))
	}
	for _, e := range p.examples {
		all = append(all, strings.Split(strings.TrimSpace(e.text), "\n")...)
	}
	return all
}

// TestCommandsThatAreNamed tries the verbs and flags of all commands that a page
// shows, without running them.
func TestCommandsThatAreNamed(t *testing.T) {
	sim := filepath.Join(t.TempDir(), "device-sim")
	if out, err := exec.Command("go", "build", "-o", sim, filepath.Join(repository, "device-sim")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	checked := 0
	for _, p := range pages(t) {
		for _, code := range p.codes() {
			ours, err := tryCommand(sim, code)
			if ours {
				checked++
			}
			if err != nil {
				t.Errorf("%s: `%s`: %v", p.name, code, err)
			}
		}
	}
	if checked < 60 {
		t.Errorf("only %d commands and flags are named", checked)
	}
}

// TestCommandsAreRun: a block in text is no way around TestExamplesRun.
func TestCommandsAreRun(t *testing.T) {
	for _, p := range pages(t) {
		for line := range strings.Lines(strings.Join(p.of("text"), "")) {
			line = strings.TrimSpace(line)
			if words := wordsOf(line); len(words) > 1 && (words[0] == "pulsegate" || words[0] == "device-sim") && notRun()[line] == "" {
				t.Errorf("%s: `%s` is in a block that is not run", p.name, line)
			}
		}
	}
}

// tryCommand says whether the code is a command, verb or flag of ours, and what is
// wrong with it.
func tryCommand(sim, code string) (ours bool, err error) {
	words := wordsOf(code)
	if len(words) == 0 {
		return false, nil
	}
	switch first, more := words[0], len(words) > 1; {
	case first == "pulsegate":
		return true, parses(words[1:])
	case slices.Contains([]string{"device", "gateway", "master"}, first) && more && smallLetters.MatchString(words[1]):
		return true, parses(words)
	case first == "device-sim":
		return true, simParses(sim, words[1:])
	case strings.HasPrefix(first, "--") && !slices.Contains(foreign(), first):
		return true, anybodys(sim, first)
	case first == "go" && more && words[1] == "test":
		return true, testsExist(words[2:])
	}
	return false, nil
}

var (
	shellWord = regexp.MustCompile(`"[^"]*"|'[^']*'|[^\s"']+`)
	variable  = regexp.MustCompile(`^[A-Z_]+=`)
	// smallLetters are those of a verb; a diagram has others beside "gateway".
	smallLetters = regexp.MustCompile(`^[a-z]+$`)
)

// wordsOf are those of a command, without variables before it, and up to a comment
// or whatever else ends it.
func wordsOf(line string) []string {
	var words []string
	for _, word := range shellWord.FindAllString(line, -1) {
		if strings.ContainsAny(word[:1], `#>|;&\`) {
			break
		}
		if len(words) > 0 || !variable.MatchString(word) {
			words = append(words, strings.Trim(word, `"'`))
		}
	}
	return words
}

// parses looks for the verb of the pulsegate command and lets it parse its flags.
func parses(words []string) error {
	root := newRoot()
	root.InitDefaultCompletionCmd(words...)
	c, rest, err := root.Find(words)
	if err != nil {
		return err
	}
	c.InitDefaultHelpFlag()
	if err := c.ParseFlags(rest); err != nil {
		return err
	}
	if c.HasSubCommands() && c.Flags().NArg() > 0 {
		return fmt.Errorf("%s has no verb %q", c.CommandPath(), c.Flags().Arg(0))
	}
	return nil
}

// simParses asks the program for help after the words, which it parses first.
func simParses(sim string, words []string) error {
	out, err := exec.Command(sim, append(slices.Clone(words), "--help")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	usage := "device-sim"
	if len(words) > 0 && !strings.HasPrefix(words[0], "-") {
		usage += " " + words[0]
	}
	if !strings.Contains(string(out), "\nUsage:\n  "+usage+" ") {
		return fmt.Errorf("there is no verb %s", usage)
	}
	return nil
}

// anybodys says whether a command has a flag that is named without its command.
func anybodys(sim, flag string) error {
	for _, verb := range [][]string{nil, {"attack"}, {"settle"}} {
		out, _ := exec.Command(sim, append(verb, "--help")...).Output()
		if regexp.MustCompile(`(?m)^ +` + flag + `\b`).Match(out) {
			return nil
		}
	}
	found := false
	var look func(c *cobra.Command)
	look = func(c *cobra.Command) {
		for _, flags := range []*pflag.FlagSet{c.Flags(), c.PersistentFlags()} {
			found = found || flags.Lookup(strings.TrimPrefix(flag, "--")) != nil
		}
		for _, sub := range c.Commands() {
			look(sub)
		}
	}
	if look(newRoot()); !found {
		return fmt.Errorf("no command has this flag")
	}
	return nil
}

// testsExist wants a test or benchmark in the package for each pattern that is not
// there to match none.
func testsExist(words []string) error {
	if words[0] == "./..." {
		return nil
	}
	files, err := filepath.Glob(filepath.Join(repository, words[0], "*_test.go"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("%s has no tests (%w)", words[0], err)
	}
	var source strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		source.Write(text)
	}
	for i := 1; i < len(words); i++ {
		flag, value, joined := strings.Cut(words[i], "=")
		if !joined && i+1 < len(words) {
			i++
			value = words[i]
		}
		if err := matchesSome(flag, value, source.String(), slices.Contains(words, "-bench")); err != nil {
			return err
		}
	}
	return nil
}

func matchesSome(flag, value, source string, bench bool) error {
	kind := ""
	switch flag {
	case "-run":
		if kind = "Test"; bench {
			return nil // it keeps the tests from running
		}
	case "-bench":
		kind = "Benchmark"
	case "-benchtime":
		return nil
	default:
		if name := strings.TrimPrefix(flag, "-"); !regexp.MustCompile(`flag\.\w+\((&\w+, )?"` + name + `"`).MatchString(source) {
			return fmt.Errorf("the tests have no flag %s", flag)
		}
		return nil
	}
	pattern, err := regexp.Compile(value)
	if err != nil {
		return err
	}
	for _, name := range regexp.MustCompile(`(?m)^func (`+kind+`\w+)\(`).FindAllStringSubmatch(source, -1) {
		if pattern.MatchString(name[1]) {
			return nil
		}
	}
	return fmt.Errorf("%s %s matches none", flag, value)
}
