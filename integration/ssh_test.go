//go:build integration

package integration

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sshServer is an sshd of this host on a port of its own, which lets in who has a key that nobody else has.
type sshServer struct {
	Port   int
	Config string // for ssh -F: the host is known as rig, and as 127.0.0.1
	dir    string
}

// sshd starts one, and ends it with the test.
func sshd(t *testing.T) *sshServer {
	t.Helper()
	const program = "/usr/sbin/sshd" // it insists on being called by its whole path
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("%v: make integration installs it", err)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	s := &sshServer{Port: freePorts(t, 1)[0], dir: t.TempDir()}
	in := func(name string) string { return filepath.Join(s.dir, name) }
	s.Config = in("ssh_config")
	for _, key := range []string{"host", "user"} {
		must(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", in(key))
	}
	public := func(key string) string {
		b, err := os.ReadFile(in(key + ".pub"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for name, text := range map[string]string{
		"sshd_config": fmt.Sprintf(`ListenAddress 127.0.0.1
Port %d
HostKey %s
PidFile none
AuthorizedKeysFile %s
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100:30:200
`, s.Port, in("host"), in("authorized")),
		"authorized": public("user"),
		"known":      fmt.Sprintf("[127.0.0.1]:%d %s", s.Port, public("host")),
		"ssh_config": fmt.Sprintf(`Host rig 127.0.0.1
HostName 127.0.0.1
Port %d
User %s
IdentityFile %s
IdentitiesOnly yes
UserKnownHostsFile %s
GlobalKnownHostsFile none
StrictHostKeyChecking yes
`, s.Port, me.Username, in("user"), in("known")),
	} {
		if err := os.WriteFile(in(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if os.Getuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // it drops its rights into an empty folder
			t.Fatal(err)
		}
	}
	d := startDaemon(t, os.Environ(), program, "-D", "-e", "-f", in("sshd_config"))
	until(t, 20*time.Second, "sshd listens", func() bool {
		c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", s.Port), time.Second)
		if err != nil {
			return false
		}
		c.Close()
		return true
	}, d)
	return s
}

// args are those of ssh before the host's name, for the host rig.
func (s *sshServer) args() []string { return []string{"-F", s.Config, "-o", "BatchMode=yes"} }

// The rig works: the key lets in, and nothing else does.
func TestSSHRig(t *testing.T) {
	s := sshd(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ssh", append(s.args(), "rig", "echo $((6*7))")...).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "42" {
		t.Fatalf("%v\n%s", err, out)
	}
	must(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(s.dir, "other"))
	conf, err := os.ReadFile(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	stranger := filepath.Join(s.dir, "stranger_config")
	if err := os.WriteFile(stranger, []byte(strings.Replace(string(conf), "IdentityFile "+filepath.Join(s.dir, "user"), "IdentityFile "+filepath.Join(s.dir, "other"), 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err = exec.CommandContext(ctx, "ssh", "-F", stranger, "-o", "BatchMode=yes", "rig", "true").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "Permission denied") {
		t.Errorf("with another key: %v\n%s", err, out)
	}
}
