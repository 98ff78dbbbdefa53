//go:build unix

package hosts

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
)

// stand is a program that takes ssh's place: it notes its command line, and has a shell run what ssh would send.
func stand(t *testing.T) (program, noted string) {
	t.Helper()
	dir := t.TempDir()
	program, noted = filepath.Join(dir, "ssh"), filepath.Join(dir, "noted")
	text := "#!/bin/sh\necho \"$@\" >" + noted + "\nfor last; do :; done\nexec sh -c \"$last\"\n"
	if err := os.WriteFile(program, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return program, noted
}

// end waits for a process, and ends the test where it does not end.
func end(t *testing.T, p *Process) {
	t.Helper()
	select {
	case <-p.Ended():
	case <-time.After(time.Minute):
		p.Kill()
		t.Fatal("the process did not end")
	}
}

func TestArgv(t *testing.T) {
	h := Host{User: "alice", Name: "node1", Port: 2222, Slots: 1}
	argv, err := h.Argv(Command{Grace: 1500 * time.Millisecond, Options: []string{"-F", "conf"}})
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(argv[:len(argv)-1], " ")
	want := "ssh -T -o BatchMode=yes -o ClearAllForwardings=yes -o ConnectTimeout=15 -o ServerAliveInterval=5 -o ServerAliveCountMax=3 -F conf -p 2222 -- alice@node1"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if strings.Contains(got, "StrictHostKeyChecking") {
		t.Error("whose key a host must show is ssh's own affair")
	}
	remote := argv[len(argv)-1]
	if remote != "exec sh -c '"+script+"' covey 2" {
		t.Errorf("the host is sent %s", remote)
	}
	// What other shells than sh would take for themselves.
	if strings.ContainsAny(script, "'\n\\") || strings.Contains(strings.ReplaceAll(script, "! ", ""), "!") {
		t.Errorf("the script holds what csh or fish would change: %s", script)
	}
	for _, bad := range []Command{{}, {Args: []string{""}}, {Args: []string{"a\nb"}}, {Args: []string{"a", "b\x00"}}} {
		if p, err := h.Start(bad, comm.RealClock()); err == nil {
			end(t, p)
			t.Errorf("%q passes for a command", bad.Args)
		}
	}
	for _, bad := range []Host{{Name: "-oProxyCommand=x"}, {Name: "a;b"}, {User: "-l", Name: "a"}} {
		if argv, err := bad.Argv(Command{}); err == nil {
			t.Errorf("%q", argv)
		}
	}
}

// Environment and arguments come to the program as they were given, on no command line of ssh's, and the exit code comes back.
func TestEnvironmentAndExitCode(t *testing.T) {
	program, noted := stand(t)
	secret := `s3cret "quoted" 'single' $HOME \back\ =`
	var out, errs bytes.Buffer
	c := Command{Program: program, Args: []string{"sh", "-c", `printf "%s|%s|%s|" "$TOKEN" "$EMPTY" "$1"; cat; echo err >&2; exit 3`, "sh", "an arg; $(x) 'q' !"},
		Env: map[string]string{"TOKEN": secret, "EMPTY": ""}, Stdout: &out, Stderr: &errs}
	p, err := Host{Name: "node1", Slots: 1}.Start(c, comm.RealClock())
	if err != nil {
		t.Fatal(err)
	}
	end(t, p)
	if how, well := p.End(); p.Code() != 3 || well || how != "exit status 3" {
		t.Errorf("ended as %s, code %d", how, p.Code())
	}
	if want := secret + "||an arg; $(x) 'q' !|"; out.String() != want || errs.String() != "err\n" {
		t.Errorf("printed %q and %q\nwant %q", out.String(), errs.String(), want)
	}
	line, err := os.ReadFile(noted)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(line), "s3cret") || strings.Contains(string(line), "an arg") || !strings.Contains(string(line), "node1") {
		t.Errorf("the command line was %s", line)
	}
	for _, env := range []map[string]string{{"A B": ""}, {"1A": ""}, {"": ""}, {"A": "1\n2"}, {"A=": ""}} {
		c.Env = env
		if p, err := (Host{Name: "node1", Slots: 1}).Start(c, comm.RealClock()); err == nil {
			end(t, p)
			t.Errorf("%q passes for an environment", env)
		}
	}
}

// loop is a program that says up, and ends when it is asked to, with code 7.
var loop = []string{"sh", "-c", `sleep 1000 >/dev/null 2>&1 & s=$!; trap "kill $s; echo left; exit 7" TERM; echo up; wait`}

// deaf is a program that does not end when it is asked to.
var deaf = []string{"sh", "-c", `trap "" TERM; echo up; exec sleep 1000 >/dev/null 2>&1`}

// started runs a program and waits until it is up.
func started(t *testing.T, c Command) (*Process, *bufio.Reader) {
	t.Helper()
	r, w := io.Pipe()
	c.Stdout = w
	p, err := Host{Name: "node1", Slots: 1}.Start(c, comm.RealClock())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Kill(); r.Close() })
	lines := bufio.NewReader(r)
	if up, err := lines.ReadString('\n'); err != nil || up != "up\n" {
		t.Fatalf("%q, %v", up, err)
	}
	return p, lines
}

// Who is stopped may end by itself, and who does not is made to.
func TestStop(t *testing.T) {
	program, _ := stand(t)
	p, lines := started(t, Command{Program: program, Args: loop})
	p.Stop()
	if left, err := lines.ReadString('\n'); err != nil || left != "left\n" {
		t.Errorf("%q, %v", left, err)
	}
	end(t, p)
	if p.Code() != 7 {
		t.Errorf("code %d", p.Code())
	}
	p, _ = started(t, Command{Program: program, Args: deaf, Grace: time.Second})
	p.Stop()
	end(t, p)
	if p.Code() != 128+9 {
		t.Errorf("code %d, expected that of a killed program", p.Code())
	}
}

// A command that did not come whole does not run.
func TestHalfACommand(t *testing.T) {
	program, _ := stand(t)
	argv, err := Host{Name: "node1", Slots: 1}.Argv(Command{Program: program})
	if err != nil {
		t.Fatal(err)
	}
	for given, want := range map[string]string{"": "", "EA=1\nEB=": "", "EA=1\nAecho\nAran\n": "", "EA=1\nAecho\nAran\n\n": "ran\n", "Aecho\nA\nA-\n\n": " -\n"} {
		cmd := exec.Command(argv[0], argv[1:]...)
		var out bytes.Buffer
		cmd.Stdout = &out
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(stdin, given); err != nil {
			t.Fatal(err)
		}
		if want == "" {
			stdin.Close() // a whole command would be ended by it
		}
		err = cmd.Wait()
		if out.String() != want || (err == nil) != (want != "") {
			t.Errorf("after %q: %q, %v", given, out.String(), err)
		}
	}
}

// That ssh cannot reach a host is told from the program's own end.
func TestNoConnection(t *testing.T) {
	program := filepath.Join(t.TempDir(), "ssh")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho no route >&2\nexit 255\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	p, err := Host{Name: "node1", Slots: 1}.Start(Command{Program: program, Args: []string{"covey"}, Stderr: &errs}, comm.RealClock())
	if err != nil {
		t.Fatal(err)
	}
	end(t, p)
	if how, well := p.End(); well || how != "the connection to node1 failed" || p.Code() != -1 || errs.String() != "no route\n" {
		t.Errorf("%s, code %d, %q", how, p.Code(), errs.String())
	}
	if _, err := (Host{Name: "node1", Slots: 1}).Start(Command{Program: filepath.Join(t.TempDir(), "none"), Args: []string{"covey"}}, comm.RealClock()); err == nil {
		t.Error("a program that is not there runs")
	}
}
