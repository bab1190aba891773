package config

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/caarlos0/env/v11"
)

// variableConfig names the configuration file.
const variableConfig = envPrefix + "CONFIG"

// Kubernetes puts such variables into every pod of a namespace that has a Service whose name begins with pulsegate
// (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables); nobody means them.
var (
	serviceName  = regexp.MustCompile(`^PULSEGATE(_[A-Z0-9_]+)?_(SERVICE_(HOST|PORT)|SERVICE_PORT_[A-Z0-9_]+|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)
	servicePort  = regexp.MustCompile(`^PULSEGATE(_[A-Z0-9_]+)?_PORT$`)
	serviceValue = regexp.MustCompile(`^(tcp|udp|sctp)://`)
)

// ours picks the variables that are settings; an unknown one that begins with PULSEGATE_ is an error that never shows its
// value.
func ours(environ, allow []string) (map[string]string, error) {
	settings := []string{variableConfig}
	for _, l := range leaves() {
		settings = append(settings, l.variable())
	}
	known := slices.Concat(settings, allow)
	picked := map[string]string{}
	for name, value := range env.ToMap(environ) {
		if slices.Contains(settings, name) {
			picked[name] = value
		}
	}
	for _, name := range sortedNames(environ) {
		if !slices.Contains(known, name) {
			return nil, &Error{Origin: "environment variable " + name, Problem: "unknown", Allowed: "for instance " + strings.Join(nearest(name, known), ", ")}
		}
	}
	return picked, nil
}

// sortedNames lists the names that claim to be ours, in an order that makes the first error the same every time.
func sortedNames(environ []string) []string {
	var names []string
	for name, value := range env.ToMap(environ) {
		fromKubernetes := serviceName.MatchString(name) || servicePort.MatchString(name) && serviceValue.MatchString(value)
		if strings.HasPrefix(name, envPrefix) && !fromKubernetes {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// nearest lists the three known names that are fewest edits away.
func nearest(name string, known []string) []string {
	sorted := slices.Clone(known)
	slices.SortStableFunc(sorted, func(a, b string) int {
		return cmp.Compare(levenshtein.ComputeDistance(name, a), levenshtein.ComputeDistance(name, b))
	})
	return sorted[:3]
}

// environment takes the variables over what is there. An empty one counts as not set, because compose files and unit files
// pass on variables that nobody filled in.
func (l *loader) environment(variables map[string]string) error {
	for _, to := range leaves() {
		text := variables[to.variable()]
		if text == "" {
			continue
		}
		if err := l.set(to, text, "environment variable "+to.variable()); err != nil {
			return err
		}
	}
	return nil
}
