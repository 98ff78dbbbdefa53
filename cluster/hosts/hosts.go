// Package hosts reads a file of hosts and runs workers on them over ssh.
//
//	# covey launch --hosts FILE
//	node1 slots=4
//	alice@node2 slots=4 port=2222
//	fd00::7
//
// A line is a host as ssh would be given it, how many workers it takes (1 when it does not say) and its port.
package hosts

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/covey-ml/covey/spec"
)

// Bounds of a file.
const (
	maxFile  = 1 << 20   // bytes
	maxHosts = 65_536    // lines that name one
	maxSlots = 1_000_000 // workers, as in a job file
)

// Host is where workers run.
type Host struct {
	User  string // empty: as ssh's own configuration says
	Name  string // a name of DNS or of ssh's configuration, or an address
	Port  int    // 0: as ssh's own configuration says
	Slots int    // how many workers it takes
	Line  int    // of the file, from 1
}

// String writes the host as the file does.
func (h Host) String() string {
	s := h.Name
	if h.User != "" {
		s = h.User + "@" + s
	}
	if h.Slots > 1 {
		s += fmt.Sprintf(" slots=%d", h.Slots)
	}
	if h.Port != 0 {
		s += fmt.Sprintf(" port=%d", h.Port)
	}
	return s
}

// Load reads a file of hosts.
func Load(path string) ([]Host, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		if near := spec.NearestPath(path); near != "" {
			return nil, fmt.Errorf("there is no file of hosts %s: did you mean %s?", path, near)
		}
		return nil, fmt.Errorf("there is no file of hosts %s", path)
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	return Parse(path, text)
}

// Parse reads hosts; name is the file's in errors.
func Parse(name string, text []byte) ([]Host, error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s: more than %d bytes: not a file of hosts", name, maxFile)
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 {
		return nil, fmt.Errorf("%s: not a file of hosts: not text in UTF-8", name)
	}
	var all []Host
	seen := map[string]int{}
	slots, n := 0, 0
	for line := range strings.Lines(string(text)) {
		n++
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		h, err := parseLine(words)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
		h.Line = n
		key := fmt.Sprintf("%s@%s:%d", h.User, h.Name, h.Port)
		if first := seen[key]; first > 0 {
			return nil, fmt.Errorf("%s:%d: %s stands in line %d already: give it more slots there", name, n, words[0], first)
		}
		seen[key] = n
		if all = append(all, h); len(all) > maxHosts {
			return nil, fmt.Errorf("%s:%d: more than %d hosts", name, n, maxHosts)
		}
		if slots += h.Slots; slots > maxSlots {
			return nil, fmt.Errorf("%s:%d: more than %d slots together", name, n, maxSlots)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: no host: expected lines such as node1 slots=4", name)
	}
	return all, nil
}

func parseLine(words []string) (Host, error) {
	h := Host{Slots: 1}
	at := words[0]
	if user, host, some := strings.Cut(at, "@"); some {
		if !isName(user) {
			return h, fmt.Errorf("%.80q: %.40q is no user's name", at, user)
		}
		h.User, at = user, host
	}
	h.Name = at
	if addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(at, "["), "]")); err == nil {
		h.Name = addr.String()
	} else if host, number, some := strings.Cut(at, ":"); some {
		// Some tools mean a port by it, and some a number of workers.
		return h, fmt.Errorf("%.80q: write %s slots=%s or %[2]s port=%[3]s", words[0], clip(host), clip(number))
	} else if key, value, some := strings.Cut(at, "="); some {
		return h, fmt.Errorf("%.80q: a line begins with the host, as in node1 %s=%s", words[0], clip(key), clip(value))
	} else if !isName(at) {
		return h, fmt.Errorf("%.80q is no host's name", at)
	}
	given := map[string]bool{}
	for _, w := range words[1:] {
		key, value, some := strings.Cut(w, "=")
		if err := spec.OneOf("word", key, "slots", "port"); err != nil {
			return h, err
		}
		if !some {
			return h, fmt.Errorf("%s needs a number, as in %[1]s=4", key)
		}
		if given[key] {
			return h, fmt.Errorf("%s stands twice", key)
		}
		given[key] = true
		to, most := &h.Slots, maxSlots
		if key == "port" {
			to, most = &h.Port, 65535
		}
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > most {
			return h, fmt.Errorf("%s is %.40q, expected a whole number from 1 to %d", key, value, most)
		}
		*to = n
	}
	return h, nil
}

func clip(s string) string { return s[:min(len(s), 40)] }

// isName holds users and hosts to what cannot be mistaken for an option or for something to a shell.
func isName(s string) bool {
	if s == "" || len(s) > 253 || s[0] == '-' || s[0] == '.' {
		return false
	}
	for _, c := range s {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_') {
			return false
		}
	}
	return true
}

// Spread gives each of so many workers a host: they fill the hosts in the file's order.
func Spread(all []Host, workers int) ([]Host, error) {
	slots := 0
	for _, h := range all {
		slots += h.Slots
	}
	if workers > slots {
		return nil, fmt.Errorf("%d workers for %d slots on %d hosts: give hosts more, as in %s slots=%d", workers, slots, len(all), all[len(all)-1].Name, all[len(all)-1].Slots+workers-slots)
	}
	places := make([]Host, 0, workers)
	for _, h := range all {
		for range min(h.Slots, workers-len(places)) {
			places = append(places, h)
		}
	}
	return places, nil
}
