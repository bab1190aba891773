package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// maxInput bounds what is read as a text or payload, in bytes: many times what
// a reading may be, so that one that is too large is still judged.
const maxInput = 1 << 20

func keyFlags(cmd *cobra.Command, device string) {
	cmd.Flags().String("device", "", "`ID` of the "+device)
	cmd.Flags().String("key", "", "signing key in `hexadecimal`")
	cmd.Flags().String("key-file", "", "`file` that holds the signing key in hexadecimal")
}

// onlyOne returns which of some flags was given, or "".
func onlyOne(cmd *cobra.Command, names ...string) (string, error) {
	given := ""
	for _, name := range names {
		if !cmd.Flags().Changed(name) {
			continue
		}
		if given != "" {
			return "", fmt.Errorf("--%s and --%s exclude each other: give one", given, name)
		}
		given = name
	}
	return given, nil
}

// givenKey reads the key that --key or --key-file gives.
func givenKey(cmd *cobra.Command, source string) ([]byte, error) {
	value, _ := cmd.Flags().GetString(source)
	if source == "key" {
		return parseKey(value, "--key")
	}
	file, err := os.Open(value)
	if err != nil {
		return nil, fmt.Errorf("--key-file: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxInput))
	if err != nil {
		return nil, fmt.Errorf("--key-file: %w", err)
	}
	return parseKey(strings.TrimSpace(string(text)), value)
}

// parseKey decodes a key; an error names where it came from and never the key.
// Base64 is not tried: a key of which a digit is missing could pass for it.
func parseKey(digits, origin string) ([]byte, error) {
	const wanted = "it must be 64 hexadecimal digits, or 32 to 256 for an imported key"
	key, err := hex.DecodeString(digits)
	switch {
	case digits == "":
		return nil, fmt.Errorf("%s is empty: %s", origin, wanted)
	case errors.Is(err, hex.ErrLength):
		return nil, fmt.Errorf("%s has an odd number of hexadecimal digits, %d: %s", origin, len(digits), wanted)
	case err != nil:
		return nil, fmt.Errorf("%s is not hexadecimal: %s", origin, wanted)
	case len(key) < 16 || len(key) > 128:
		return nil, fmt.Errorf("%s has %d hexadecimal digits: %s", origin, len(digits), wanted)
	}
	return key, nil
}

// readInput reads the file that is named, or standard input, whole.
func readInput(cmd *cobra.Command, args []string) ([]byte, error) {
	in, name := cmd.InOrStdin(), "standard input"
	if len(args) == 1 && args[0] != "-" {
		file, err := os.Open(args[0])
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("there is no file %s", args[0])
		}
		if err != nil {
			return nil, err
		}
		defer file.Close()
		in, name = file, args[0]
	}
	data, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading %s: %w", name, err)
	case len(data) == 0:
		return nil, fmt.Errorf("%s is empty: expected a JSON object", name)
	case len(data) > maxInput:
		return nil, fmt.Errorf("%s is larger than %d bytes", name, maxInput)
	}
	return data, nil
}

func atMostOne(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return fmt.Errorf("%s takes at most one argument, %s, but got %d; see `%s --help`", cmd.CommandPath(), what, len(args), cmd.CommandPath())
		}
		return nil
	}
}
