package config

import (
	"errors"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/caarlos0/env/v11"
	"github.com/spf13/pflag"
)

// Sources is where Load looks, in rising order: the file, the environment, the flags.
type Sources struct {
	// File is the YAML file's path. Where it is empty, --config and then PULSEGATE_CONFIG name the file; without any of
	// them there is none.
	File string
	// Environ holds NAME=VALUE, as os.Environ returns it. An empty value counts as not set.
	Environ []string
	// Allow names further variables that begin with PULSEGATE_ and belong to someone else, such as PULSEGATE_OPERATOR_URL.
	Allow []string
	// Flags may hold any of those that RegisterFlags registers; one counts where the user gave it. nil means none.
	Flags *pflag.FlagSet
}

// Load reads all sources over the defaults, fills in the data directory and validates. Its error is one line and, where
// the configuration itself is wrong, an *Error.
func Load(s Sources) (Config, error) {
	l := loader{config: Default(), origins: map[string]string{}}
	if err := l.load(s); err != nil {
		return Config{}, err
	}
	return l.config, nil
}

// DefaultData is $XDG_STATE_HOME/pulsegate, else ~/.local/state/pulsegate, taken from NAME=VALUE pairs. A relative
// XDG_STATE_HOME is ignored, as the XDG Base Directory Specification demands.
func DefaultData(environ []string) (string, error) {
	variables := env.ToMap(environ)
	if state := variables["XDG_STATE_HOME"]; filepath.IsAbs(state) {
		return filepath.Join(state, "pulsegate"), nil
	}
	if home := variables["HOME"]; filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "pulsegate"), nil
	}
	return "", &Error{Key: "data", Problem: "there is no default, since neither XDG_STATE_HOME nor HOME holds an absolute path; give a directory"}
}

type loader struct {
	config  Config
	origins map[string]string // by dotted key; what is absent is a default
}

func (l *loader) load(s Sources) error {
	variables, err := ours(s.Environ, s.Allow)
	if err != nil {
		return err
	}
	if name := configFile(s, variables); name != "" {
		if err := l.file(name); err != nil {
			return err
		}
	}
	if err := l.environment(variables); err != nil {
		return err
	}
	if err := l.flags(s.Flags); err != nil {
		return err
	}
	if l.config.Data == "" {
		if l.config.Data, err = DefaultData(s.Environ); err != nil {
			return err
		}
	}
	return l.validate()
}

func configFile(s Sources, variables map[string]string) string {
	if s.File != "" {
		return s.File
	}
	if value, ok := changed(s.Flags, flagConfig); ok {
		return value
	}
	return variables[variableConfig]
}

// validate adds to a problem where the value came from.
func (l *loader) validate() error {
	err := l.config.Validate()
	var problem *Error
	if !errors.As(err, &problem) {
		return err
	}
	problem.Origin = l.origins[problem.Key]
	if problem.Origin == "" {
		problem.Origin = "default value"
	}
	return problem
}

// set gives a setting the value that a text stands for, and remembers where it came from.
func (l *loader) set(to leaf, text, origin string) error {
	l.origins[to.key] = origin
	if text == "" {
		return l.setEmpty(to)
	}
	// One variable at a time, since an error of env names the struct's field and several have the same name.
	options := env.Options{
		Prefix:      envPrefix,
		Environment: map[string]string{to.variable(): text},
		FuncMap:     map[reflect.Type]env.ParserFunc{reflect.TypeFor[bool](): parseBool},
	}
	if err := env.ParseWithOptions(&l.config, options); err != nil {
		return l.wrong(to, quote(to, text)+" is not "+to.noun())
	}
	return nil
}

// setEmpty stands beside set because env takes an empty variable for an absent one.
func (l *loader) setEmpty(to leaf) error {
	if to.kind.Kind() != reflect.String {
		return l.wrong(to, "an empty value is not "+to.noun())
	}
	to.value(&l.config).SetString("")
	return nil
}

func (l *loader) wrong(of leaf, problem string) error {
	return &Error{Origin: l.origins[of.key], Key: of.key, Problem: problem, Allowed: rules()[of.key].allowed}
}

// parseBool is narrower than strconv's, which also takes 1 and T.
func parseBool(text string) (any, error) {
	switch strings.ToLower(text) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return nil, errors.New("not a boolean")
}
