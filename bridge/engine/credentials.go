package engine

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/pulsegate/pulsegate/configs"
)

// AccountsFile returns the path of the file that a real server's configuration includes.
func AccountsFile(dir string) string { return filepath.Join(dir, "accounts.conf") }

// RoutesFile returns the path of the file that the servers of a cluster include.
func RoutesFile(dir string) string { return filepath.Join(dir, "routes.conf") }

const (
	// gateUser is the gate's user, as accounts.conf names it.
	gateUser = "gate"
	// routeUser is as whom the servers of a cluster log in to each other.
	routeUser = "routes"
)

// MakeCredentials fills a directory, made with mode 0700, with what a real NATS server and its clients must agree on: a
// URL file each for gate, operator, consumer and security, and for the server the accounts with those passwords; all of
// mode 0600. Passwords that are there are kept, so it may run before every start; addresses and accounts are brought up
// to date. servers is one URL or several separated by commas, without credentials.
func MakeCredentials(dir, servers string) error {
	clean, err := bare(servers)
	if err != nil {
		return err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(fillCredentials(dir, clean), lock.Unlock())
}

// MakeRoutes adds to such a directory what the servers of a cluster need to let each other in, and nobody else: routes.conf,
// for each server's configuration to include in its cluster block, and routes.url, where the password is kept. servers are
// the URLs of all of them, separated by commas, without credentials. A server passes over the route to itself.
func MakeRoutes(dir, servers string) error {
	clean, err := bare(servers)
	if err != nil {
		return fmt.Errorf("routes: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(fillRoutes(dir, clean), lock.Unlock())
}

func fillRoutes(dir, servers string) error {
	password, err := keptOrNew(dir, routeUser)
	if err != nil {
		return err
	}
	urls := withUser(servers, routeUser, password)
	if err := writeChanged(URLFile(dir, routeUser), urls); err != nil {
		return err
	}
	var text strings.Builder
	text.WriteString("# Made by `pulsegate credentials init`, and made anew when that runs again: include it, do not edit it.\n\n")
	fmt.Fprintf(&text, "authorization { user: %q, password: %q }\nroutes: [\n", routeUser, password)
	for url := range strings.SplitSeq(strings.TrimSpace(urls), ",") {
		fmt.Fprintf(&text, "  %q\n", url)
	}
	text.WriteString("]\n")
	return writeChanged(RoutesFile(dir), text.String())
}

// bare checks URLs that are to hold no credentials.
func bare(servers string) (string, error) {
	if strings.Contains(servers, "@") {
		return "", errors.New("the NATS URL holds credentials: give it without, since they are made here")
	}
	return withoutCredentials(servers)
}

func fillCredentials(dir, servers string) error {
	users, err := readUsers(dir)
	if err != nil {
		return err
	}
	gate, err := keptOrNew(dir, gateUser)
	if err != nil {
		return err
	}
	texts := map[string]string{
		URLFile(dir, gateUser): withUser(servers, gateUser, gate),
		// accounts.conf stands in the same file as its variables, since an included file does not see its includer's.
		AccountsFile(dir): "# Made by `pulsegate credentials init`, and made anew when that runs again: include it, do not edit it.\n\n" +
			passwordVariables(gate, users) + "\n" + configs.NATSAccounts(),
	}
	for name, password := range users {
		texts[URLFile(dir, name)] = withUser(servers, name, password)
	}
	for path, text := range texts {
		if err := writeChanged(path, text); err != nil {
			return err
		}
	}
	return nil
}

// keptOrNew returns the password in the user's URL file, so that nobody is cut off, or a new one.
func keptOrNew(dir, user string) (string, error) {
	password, err := readPassword(URLFile(dir, user), user)
	if errors.Is(err, fs.ErrNotExist) {
		return rand.Text(), nil
	}
	return password, err
}

func withUser(servers, user, password string) string {
	var all []string
	for server := range strings.SplitSeq(servers, ",") {
		scheme, host, _ := strings.Cut(server, "://")
		u := url.URL{Scheme: scheme, User: url.UserPassword(user, password), Host: host}
		all = append(all, u.String())
	}
	return strings.Join(all, ",") + "\n"
}

// writeChanged writes a file that does not already say the same.
func writeChanged(path, text string) error {
	if old, err := os.ReadFile(path); err == nil && string(old) == text {
		return nil
	}
	if err := writeFile(path, text); err != nil {
		return fmt.Errorf("cannot write %s: %w; give a directory that this user may write", path, err)
	}
	return nil
}
