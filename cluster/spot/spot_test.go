package spot

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/covey-ml/covey/comm"
)

// service is a metadata service that answers as a test says.
type service struct {
	*httptest.Server
	code   int
	body   string
	header string // Metadata-Flavor of its answers
	asked  []string
	tokens int    // handed out
	name   string // of the machine
}

func serve(t *testing.T) *service {
	s := &service{code: 404, name: "worker_1"}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked = append(s.asked, r.Method+" "+r.URL.String())
		w.Header().Set("Metadata-Flavor", s.header)
		switch {
		case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token" && r.Header.Get("X-aws-ec2-metadata-token-ttl-seconds") != "":
			s.tokens++
			fmt.Fprintf(w, "token %d", s.tokens)
		case strings.HasPrefix(r.URL.Path, "/latest/meta-data/") && r.Header.Get("X-aws-ec2-metadata-token") != fmt.Sprintf("token %d", s.tokens):
			w.WriteHeader(401)
		case strings.HasPrefix(r.URL.Path, "/computeMetadata/") && r.Header.Get("Metadata-Flavor") != "Google",
			strings.HasPrefix(r.URL.Path, "/metadata/") && r.Header.Get("Metadata") != "true":
			w.WriteHeader(400)
		case r.URL.Path == "/metadata/instance/compute/name":
			fmt.Fprint(w, s.name)
		default:
			w.WriteHeader(s.code)
			fmt.Fprint(w, s.body)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// check asks, and holds the answer to what it should say; "" is that nothing comes.
func check(t *testing.T, ask func(context.Context) (string, error), says, fails string) {
	t.Helper()
	why, err := ask(t.Context())
	if !strings.Contains(why, says) || (why == "") != (says == "") || (err == nil) != (fails == "") || err != nil && !strings.Contains(err.Error(), fails) {
		t.Errorf("it says %q, %v; expected %q, %q", why, err, says, fails)
	}
}

func TestAWS(t *testing.T) {
	s := serve(t)
	a := &aws{base: s.URL}
	check(t, a.ask, "", "")
	check(t, a.ask, "", "")
	if s.tokens != 1 {
		t.Errorf("%d tokens for two questions", s.tokens)
	}
	s.tokens = 7 // the old one has run out
	check(t, a.ask, "", "")
	if s.tokens != 8 {
		t.Errorf("token %d, expected a new one", s.tokens)
	}
	s.code, s.body = 200, `{"action": "terminate", "time": "2026-11-28T08:22:00Z"}`
	check(t, a.ask, `AWS is about to "terminate" this machine, at "2026-11-28T08:22:00Z"`, "")
	s.body = `{"time": "2026-11-28T08:22:00Z"}`
	check(t, a.ask, "", "no action")
	s.body = "<html>"
	check(t, a.ask, "", "no JSON")
	s.code = 401 // whatever the token
	asked := len(s.asked)
	check(t, a.ask, "", "401 Unauthorized")
	if n := len(s.asked) - asked; n != 3 {
		t.Errorf("%d questions of who says no to every token: %q", n, s.asked[asked:])
	}
	s.code = 503
	check(t, a.ask, "", "503")
	s.Close()
	check(t, a.ask, "", "refused")
}

func TestGCP(t *testing.T) {
	s := serve(t)
	s.code, s.body = 200, "FALSE"
	g := gcp{s.URL}
	check(t, g.ask, "", "not Google's")
	s.header = "Google"
	check(t, g.ask, "", "")
	s.body = "TRUE\n"
	check(t, g.ask, "about to preempt", "")
	s.body = "maybe"
	check(t, g.ask, "", `"maybe", expected TRUE or FALSE`)
	s.code = 404
	check(t, g.ask, "", "404")
}

func TestAzure(t *testing.T) {
	s := serve(t)
	a := &azure{base: s.URL}
	check(t, a.ask, "", "404")
	events := func(kind, machine, when string) string {
		return fmt.Sprintf(`{"DocumentIncarnation": 3, "Events": [{"EventId": "a", "EventType": "Reboot", "Resources": ["worker_1"]},
			{"EventId": "b", "EventType": %q, "ResourceType": "VirtualMachine", "Resources": ["other", %q], "EventStatus": "Scheduled", "NotBefore": %q}]}`, kind, machine, when)
	}
	s.code = 200
	for body, says := range map[string]string{
		`{"DocumentIncarnation": 1, "Events": []}`:                      "",
		events("Freeze", "worker_1", "Mon, 19 Sep 2026 18:29:47 GMT"):   "",
		events("Preempt", "worker_10", "Mon, 19 Sep 2026 18:29:47 GMT"): "",
		events("Preempt", "WORKER_1", "Mon, 19 Sep 2026 18:29:47 GMT"):  `not before "Mon, 19 Sep 2026 18:29:47 GMT"`,
		"\ufeff" + events("Preempt", "worker_1", ""):                    "Azure is evicting this machine",
	} {
		s.body = body
		check(t, a.ask, says, "")
	}
	s.body = "[]"
	check(t, a.ask, "", "no JSON")
	if n := len(slices.DeleteFunc(s.asked, func(q string) bool { return !strings.Contains(q, "compute/name") })); n != 1 {
		t.Errorf("asked %d times what the machine is called", n)
	}
	s.name = " "
	check(t, (&azure{base: s.URL}).ask, "", "what this machine is called")
}

func TestURL(t *testing.T) {
	s := serve(t)
	u, err := Parse(s.URL + "/taken")
	if err != nil {
		t.Fatal(err)
	}
	check(t, u.Ask, "", "")
	for body, says := range map[string]string{"": "", " \n": "", "False\n": "", "at noon\nor later": `"at noon"`, strings.Repeat("x", 1000): strings.Repeat("x", 80) + `"`} {
		s.code, s.body = 200, body
		check(t, u.Ask, says, "")
	}
	s.code, s.body = 302, "elsewhere"
	check(t, u.Ask, "", "302 Found")
	s.code, s.body = 200, strings.Repeat("x", mostBytes+1)
	check(t, u.Ask, "", "more than")
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "taken")
	f, err := Parse(path)
	if err != nil {
		t.Fatal(err)
	}
	check(t, f.Ask, "", "")
	for text, says := range map[string]string{"": path + " is there", "the rack goes down\n": "the rack goes down"} {
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		check(t, f.Ask, says, "")
	}
	if f, err = Parse(dir); err != nil {
		t.Fatal(err)
	}
	check(t, f.Ask, "", "is not a file")
}

func TestParse(t *testing.T) {
	for _, text := range []string{"aws", "gcp", "azure", "./f", "https://a/b"} {
		if s, err := Parse(text); err != nil || s.String() != text {
			t.Errorf("%s: %v, %v", text, s, err)
		}
	}
	if s, err := Parse(""); s != nil || err != nil {
		t.Errorf("of nothing: %v, %v", s, err)
	}
	if s, err := Parse("http://me:secret@a/b"); err != nil || strings.Contains(s.String(), "secret") {
		t.Errorf("%v, %v", s, err)
	}
	for text, want := range map[string]string{"awz": `did you mean "aws"?`, "http://": "is not a URL", "taken": "a file with a slash"} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, expected %s", text, err, want)
		}
	}
}

// Watch says once that the machine is about to be taken, and once that it cannot ask; who does not answer is not waited for.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		answers := []string{"", "error", "error", "silence", "", "error", "taken"}
		var log []string
		say := func(format string, args ...any) {
			log = append(log, fmt.Sprintf("%v ", time.Since(began).Round(time.Second))+fmt.Sprintf(format, args...))
		}
		s := &Source{name: "it", ask: func(ctx context.Context) (string, error) {
			a := answers[0]
			answers = answers[1:]
			switch a {
			case "error":
				return "", errors.New("no")
			case "silence":
				<-ctx.Done()
				return "", ctx.Err()
			}
			return a, nil
		}}
		s.Watch(t.Context(), comm.RealClock(), func(why string) { say("%s", why) }, func(err error) { say("%v", err) })
		want := []string{"5s it does not say whether this machine is about to be taken: no", "29s it does not say whether this machine is about to be taken: no", "34s taken"}
		if !slices.Equal(log, want) {
			t.Errorf("%q, expected %q", log, want)
		}
		ctx, cancel := context.WithCancel(t.Context())
		answers = []string{"silence"}
		time.AfterFunc(time.Second, cancel)
		began = time.Now()
		s.Watch(ctx, comm.RealClock(), func(string) { t.Error("taken") }, func(err error) { t.Error(err) })
		if took := time.Since(began); took != time.Second {
			t.Errorf("it ended after %v", took)
		}
	})
}

// Whatever a service says, what is shown of it is short and can be printed.
func FuzzNotices(f *testing.F) {
	f.Add([]byte(`{"action": "stop", "time": "2026-11-28T08:22:00Z"}`))
	f.Add([]byte(`{"Events": [{"EventType": "Preempt", "Resources": ["m"], "NotBefore": "\u0007"}]}`))
	f.Add([]byte("TRUE"))
	f.Add([]byte("\x1b[2J\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		aw, e1 := awsNotice(b)
		gc, e2 := gcpNotice(b)
		az, e3 := azureNotice(b, "m")
		for _, text := range []string{aw, gc, az, said(b), fmt.Sprint(e2)} {
			if len(text) > 1000 || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%q becomes %q", b, text)
			}
		}
		if e1 != nil && aw != "" || e2 != nil && gc != "" || e3 != nil && az != "" {
			t.Errorf("%q is a notice and an error", b)
		}
	})
}
