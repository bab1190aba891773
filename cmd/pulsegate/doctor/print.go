package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// Print writes the checks as text, one a line.
func Print(w io.Writer, checks []Check) error {
	for _, c := range checks {
		// An error of several lines, such as a joined one, stays one line.
		message := strings.ReplaceAll(c.Message, "\n", "; ")
		if _, err := fmt.Fprintf(w, "%-7s  %-14s  %s\n", c.Status, c.Name, message); err != nil {
			return err
		}
	}
	return nil
}

// PrintJSON writes the checks as one JSON array, characters as they are.
func PrintJSON(w io.Writer, checks []Check) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(checks)
}
