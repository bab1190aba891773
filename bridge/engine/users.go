package engine

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

// The users besides the gate, as accounts.conf names them; each has its URL file.
func userNames() []string { return []string{"operator", "consumer", "security"} }

// URLFile returns the path of the file that holds a user's NATS URL with credentials: operator, consumer or security.
func URLFile(dir, user string) string { return filepath.Join(dir, user+".url") }

// readUsers returns each user's password: the one in its URL file, so that a restart cuts nobody off, or a new one.
func readUsers(dir string) (map[string]string, error) {
	users := map[string]string{}
	for _, name := range userNames() {
		password, err := keptOrNew(dir, name)
		if err != nil {
			return nil, err
		}
		users[name] = password
	}
	return users, nil
}

func readPassword(path, user string) (string, error) {
	text, err := readPrivate(path)
	if err != nil {
		return "", err
	}
	// Where the file names several servers, each has the same password.
	first, _, _ := strings.Cut(text, ",")
	// The parser's own error would quote the password.
	u, err := url.Parse(first)
	if err != nil || u.User == nil || u.User.Username() != user {
		return "", urlFileError(path, user)
	}
	password, _ := u.User.Password()
	if !regexp.MustCompile(`^[A-Za-z0-9_-]{16,128}$`).MatchString(password) {
		return "", urlFileError(path, user)
	}
	return password, nil
}

// readPrivate reads a file that holds a URL, unless others may read it too.
func readPrivate(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	// Windows keeps no such bits; access there follows the directory's list.
	if mode := info.Mode().Perm(); runtime.GOOS != "windows" && mode&0o077 != 0 {
		return "", fmt.Errorf("%s has mode %04o and others may read its password: run chmod 600 %s, and change the password if they may have", path, mode, path)
	}
	text, err := os.ReadFile(path)
	return strings.TrimSpace(string(text)), err
}

func urlFileError(path, user string) error {
	return fmt.Errorf("%s does not hold nats://%s:PASSWORD@HOST:PORT with a password of 16 to 128 letters, digits, - or _: delete it for a new password", path, user)
}

// writeUsers writes the URL files that do not already say the same.
func writeUsers(dir, address string, users map[string]string) error {
	for name, password := range users {
		if err := writeChanged(URLFile(dir, name), withUser("nats://"+address, name, password)); err != nil {
			return err
		}
	}
	return nil
}

// writeFile replaces the file in one step, so that a reader or a crash never meets half a URL. os.CreateTemp makes it
// with mode 0600.
func writeFile(path, text string) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }()
	_, err = file.WriteString(text)
	err = errors.Join(err, file.Sync(), file.Close())
	if err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
