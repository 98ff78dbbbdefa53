//go:build integration

package integration

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// mpiLibraries are what comm/mpi is built with, by the ending that Debian gives their commands.
var mpiLibraries = []string{"openmpi", "mpich"}

// mpiBuild compiles a package of this module, or its tests, with a library's compiler.
func mpiBuild(t *testing.T, library string, what ...string) string {
	t.Helper()
	cc, err := exec.LookPath("mpicc." + library)
	if err != nil {
		t.Fatalf("%v: integration/setup.sh installs it", err)
	}
	out := filepath.Join(t.TempDir(), "program")
	args := append(append([]string{}, what[:len(what)-1]...), "-tags", "mpi", "-o", out, what[len(what)-1])
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1", "CC="+cc)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s with %s: %v\n%s", strings.Join(args, " "), cc, err, text)
	}
	return out
}

// mpirun runs a program, as one process without mpirun when n is 0, and returns what it says and how it ended.
func mpirun(t *testing.T, library, n string, program ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	args := program
	if n != "0" {
		args = append([]string{"mpirun." + library, "-n", n}, program...)
		if library == "openmpi" {
			args = append([]string{"mpirun.openmpi", "--allow-run-as-root", "--oversubscribe", "-n", n}, program...)
		}
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.WaitDelay = 10 * time.Second
	text, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("%s, %s processes: still running after 8 minutes:\n%s", library, n, text)
	}
	return string(text), err
}

// A network has the weights that goroutines give it, to the bit, on processes of either library, with an exchange each
// step and each five.
func TestMPITrains(t *testing.T) {
	weights := regexp.MustCompile(`(?m)^weights ([0-9a-f]{64})$`)
	for _, library := range mpiLibraries {
		program := mpiBuild(t, library, "build", "../examples/mpi")
		for _, args := range [][]string{{}, {"-every", "5"}} {
			want := ""
			for _, n := range []string{"0", "3", "4"} {
				run := append([]string{program}, args...)
				if n == "0" {
					run = append(run, "-local", "4")
				}
				text, err := mpirun(t, library, n, run...)
				got := weights.FindStringSubmatch(text)
				switch {
				case err != nil || got == nil:
					t.Fatalf("%s, %v, %s processes: %v\n%s", library, args, n, err, text)
				case want == "":
					want = got[1]
				case got[1] != want:
					t.Errorf("%s, %v: %s processes end with weights %s, goroutines with %s", library, args, n, got[1], want)
				}
			}
		}
	}
}

// The exam of all transports, in one process, and with every frame crossing to another process and back.
func TestMPIExam(t *testing.T) {
	for _, library := range mpiLibraries {
		program := mpiBuild(t, library, "test", "-c", "../comm/mpi")
		for _, n := range []string{"0", "3"} {
			text, err := mpirun(t, library, n, program, "-test.short")
			if err != nil || !strings.Contains(text, "PASS") {
				t.Errorf("%s, %s processes: %v\n%s", library, n, err, text)
			}
		}
	}
}

// A process that stops is found by the timeout, by all, although MPI says nothing of it; one that dies ends the job.
func TestMPIStoppedProcess(t *testing.T) {
	for _, library := range mpiLibraries {
		program := mpiBuild(t, library, "test", "-c", "../comm/mpi")
		text, err := mpirun(t, library, "3", program, "-role", "stopped")
		if err == nil {
			t.Errorf("%s: a job of which one process is killed ends well:\n%s", library, text)
		}
		for _, want := range []string{"rank 0 says: rank 1 failed in all-reduce", "rank 2 says: rank 1 failed in all-reduce"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: nobody says %q:\n%s", library, want, text)
			}
		}
	}
}

// MPI_Allreduce by name: right sums, a network that learns, and, when a process stays away, an error for all.
func TestMPINative(t *testing.T) {
	for _, library := range mpiLibraries {
		program := mpiBuild(t, library, "test", "-c", "../comm/mpi")
		text, err := mpirun(t, library, "3", program, "-role", "native")
		if err != nil || strings.Count(text, "sums natively") != 3 {
			t.Errorf("%s: %v\n%s", library, err, text)
		}
		text, err = mpirun(t, library, "3", program, "-role", "absent")
		if want := "every rank failed in all-reduce, 400 bytes missing: timed out"; err == nil || strings.Count(text, want) != 3 {
			t.Errorf("%s: %v: want %q of all three\n%s", library, err, want, text)
		}
		text, err = mpirun(t, library, "4", mpiBuild(t, library, "build", "../examples/mpi"), "-algorithm", "native")
		if err != nil || !strings.Contains(text, "accuracy 0.9") {
			t.Errorf("%s: %v\n%s", library, err, text)
		}
	}
}

// A program that another library's mpirun starts says so, and does not train by itself.
func TestMPIOthersMpirun(t *testing.T) {
	for i, library := range mpiLibraries {
		text, err := mpirun(t, mpiLibraries[1-i], "2", mpiBuild(t, library, "build", "../examples/mpi"))
		if err == nil || !strings.Contains(text, "mpirun is another's") {
			t.Errorf("built with %s, started by %s: %v\n%s", library, mpiLibraries[1-i], err, text)
		}
	}
}
