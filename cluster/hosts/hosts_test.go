package hosts

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	text := "\ufeff# the cluster\n\nnode1 slots=4\r\n  alice@node-2.example\tport=2222 slots=3 # beside the window\n10.0.0.3\nfd00::7 slots=2\n[fd00::8]\nbob@node1\n"
	all, err := Parse("hosts", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []Host{{"", "node1", 0, 4, 3}, {"alice", "node-2.example", 2222, 3, 4}, {"", "10.0.0.3", 0, 1, 5}, {"", "fd00::7", 0, 2, 6}, {"", "fd00::8", 0, 1, 7}, {"bob", "node1", 0, 1, 8}}
	if !slices.Equal(all, want) {
		t.Errorf("got  %+v\nwant %+v", all, want)
	}
}

// An error names the line, what is wrong there, and what was meant where that can be told.
func TestParseErrors(t *testing.T) {
	for text, says := range map[string]string{
		"":                             "hosts: no host",
		"# none\n":                     "hosts: no host",
		"a\nb slot=4\n":                `hosts:2: unknown word "slot": did you mean "slots"?`,
		"a slots=0\n":                  `hosts:1: slots is "0", expected a whole number from 1`,
		"a slots\n":                    "slots=4",
		"a slots=2 slots=3\n":          "stands twice",
		"a port=65536\n":               "1 to 65535",
		"a:4\n":                        "write a slots=4 or a port=4",
		"slots=4 a\n":                  "a line begins with the host",
		"-oProxyCommand=x\n":           "a line begins with the host",
		"-a\n":                         "no host's name",
		"a;b\n":                        "no host's name",
		"$(b)\n":                       "no host's name",
		"a b@c\n":                      "unknown word",
		"u;x@c\n":                      "no user's name",
		"@c\n":                         "no user's name",
		"u@\n":                         "no host's name",
		"a\na slots=2\n":               "hosts:2: a stands in line 1 already",
		"\xff\n":                       "UTF-8",
		"a slots=999999\nb\nc\n":       "hosts:3: more than 1000000 slots",
		strings.Repeat("x\n", 99):      "line 1 already",
		strings.Repeat("#", maxFile+1): "bytes",
	} {
		if got, err := Parse("hosts", []byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.40q: %v, %v; want %s", text, got, err, says)
		}
	}
	var many strings.Builder
	for i := range maxHosts + 1 {
		fmt.Fprintf(&many, "h%d\n", i)
	}
	if _, err := Parse("hosts", []byte(many.String())); err == nil || !strings.Contains(err.Error(), "more than 65536 hosts") {
		t.Errorf("too many hosts: %v", err)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hosts.txt"), []byte("a\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if all, err := Load(filepath.Join(dir, "hosts.txt")); err != nil || len(all) != 1 {
		t.Errorf("%v, %v", all, err)
	}
	if _, err := Load(filepath.Join(dir, "host.txt")); err == nil || !strings.Contains(err.Error(), "did you mean "+filepath.Join(dir, "hosts.txt")) {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"node1 slots=4\n", "a@b port=22\n#\n", "fd00::1\n[::1] slots=2\n", "a:4\n", "fe80::1%eth0\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := Parse("hosts", text)
		if err != nil {
			return
		}
		var again strings.Builder
		for _, h := range all {
			fmt.Fprintln(&again, h)
			argv, err := h.Argv(Command{})
			if err != nil {
				t.Fatalf("%+v: %v", h, err)
			}
			if at := slices.Index(argv, "--"); at < 0 || at+3 != len(argv) {
				t.Fatalf("%q", argv)
			}
		}
		back, err := Parse("again", []byte(again.String()))
		if err != nil {
			t.Fatalf("%q: %v", again.String(), err)
		}
		for i := range back {
			back[i].Line = all[i].Line
		}
		if !slices.Equal(back, all) {
			t.Fatalf("%+v came back as %+v", all, back)
		}
	})
}

func TestSpread(t *testing.T) {
	all := []Host{{Name: "a", Slots: 2}, {Name: "b", Slots: 1}, {Name: "c", Slots: 4}}
	places, err := Spread(all, 5)
	var names []string
	for _, h := range places {
		names = append(names, h.Name)
	}
	if got := strings.Join(names, ""); err != nil || got != "aabcc" {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := Spread(all, 8); err == nil || !strings.Contains(err.Error(), "8 workers for 7 slots") || !strings.Contains(err.Error(), "c slots=5") {
		t.Error(err)
	}
}
