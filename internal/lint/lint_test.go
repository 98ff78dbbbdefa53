// Package lint holds the rules of the house as tests, so that go test ./... is the whole gate.
package lint

import (
	"bytes"
	"debug/elf"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	root   = "../.."
	module = "github.com/covey-ml/covey"
)

// rooms lists the rooms of the house from the ground up: a room imports rooms before it, and itself.
var rooms = []string{
	"rng", "spec", "vec", "ckpt", "pki", "network", "fault",
	"data", "model",
	"comm", "compress",
	"reduce", "optim",
	"strategy",
	"cluster",
	"train", "job",
	"worker",
	"ops",
	"bench", "plan",
	"cmd", "examples", "internal", "integration",
}

func TestArrowsPointDown(t *testing.T) {
	floor := map[string]int{}
	for i, r := range rooms {
		floor[r] = i
	}
	for _, line := range strings.Split(goTool(t, "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./..."), "\n") {
		paths := strings.Fields(line)
		if len(paths) == 0 {
			continue
		}
		from := room(paths[0])
		if _, ok := floor[from]; !ok {
			t.Errorf("%s: give the room %q its floor in this test and in ARCHITECTURE.md", paths[0], from)
		}
		for _, p := range paths[1:] {
			if to := room(p); to != "" && to != from && floor[to] >= floor[from] {
				t.Errorf("%s imports %s, which is not below it", paths[0], p)
			}
		}
	}
}

// room is the folder at the root that a package of this module is in, "" for others.
func room(path string) string {
	rest, ok := strings.CutPrefix(path, module+"/")
	if !ok {
		return ""
	}
	first, _, _ := strings.Cut(rest, "/")
	return first
}

func TestGofmt(t *testing.T) {
	eachFile(t, func(path string, src []byte, _ *token.FileSet, _ *ast.File) {
		if out, err := format.Source(src); err != nil || !bytes.Equal(out, src) {
			t.Errorf("%s: gofmt would change it", path)
		}
	})
}

func TestVet(t *testing.T) { goTool(t, "vet", "./...") }

// TestClock holds time and goroutines to comm.Clock, so that a simulated world can own both.
func TestClock(t *testing.T) {
	banned := []string{"time.Now", "time.Since", "time.Until", "time.Sleep", "time.After", "time.AfterFunc", "time.Tick", "time.NewTimer",
		"time.NewTicker", "context.WithTimeout", "context.WithDeadline"}
	eachFile(t, func(path string, _ []byte, set *token.FileSet, f *ast.File) {
		switch room(module + "/" + path) {
		case "comm", "cmd", "vec", "worker", "examples", "internal", "integration":
			return
		}
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%v: a go statement: use Clock.Go", set.Position(n.Pos()))
			case *ast.SelectorExpr:
				if name := selector(n); slices.Contains(banned, name) {
					t.Errorf("%v: %s: use the group's Clock", set.Position(n.Pos()), name)
				}
			}
			return true
		})
	})
}

// TestPortableMath keeps functions whose bits differ by processor away from weights and data.
func TestPortableMath(t *testing.T) {
	banned := []string{"Exp", "Exp2", "Expm1", "Log", "Log2", "Log10", "Log1p", "Pow", "Sin", "Cos", "Tan", "Sincos", "Sinh", "Cosh", "Tanh",
		"Asin", "Acos", "Atan", "Atan2", "Erf", "Erfc", "Gamma", "Lgamma", "Cbrt", "Hypot"}
	// These only report: nothing of them reaches weights.
	reports := []string{"model/linear/objective.go"}
	eachFile(t, func(path string, _ []byte, set *token.FileSet, f *ast.File) {
		if strings.HasSuffix(path, "_test.go") || slices.Contains(reports, path) || strings.HasPrefix(path, "cmd/") || strings.HasPrefix(path, "vec/gen/") {
			return
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				if name, ok := strings.CutPrefix(selector(s), "math."); ok && slices.Contains(banned, name) {
					t.Errorf("%v: math.%s has other bits on other processors: use package vec", set.Position(n.Pos()), name)
				}
				if name := selector(s); name == "rand.New" && !strings.HasPrefix(path, "rng/") {
					t.Errorf("%v: %s: draw through package rng", set.Position(n.Pos()), name)
				}
			}
			return true
		})
	})
}

// TestCrossBuilds builds the command, without cgo, for the systems that it claims to run on.
func TestCrossBuilds(t *testing.T) {
	dir := t.TempDir()
	for _, target := range []string{"linux/amd64", "linux/arm64", "darwin/arm64", "windows/amd64"} {
		goos, goarch, _ := strings.Cut(target, "/")
		out := filepath.Join(dir, goos+"-"+goarch)
		cmd := exec.Command("go", "build", "-o", out, "./cmd/covey")
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+goarch)
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", target, err, text)
			continue
		}
		if goos == "linux" {
			f, err := elf.Open(out)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range f.Progs {
				if p.Type == elf.PT_INTERP {
					t.Errorf("%s: not a static binary", target)
				}
			}
			f.Close()
		}
	}
}

func selector(s *ast.SelectorExpr) string {
	if x, ok := s.X.(*ast.Ident); ok {
		return x.Name + "." + s.Sel.Name
	}
	return ""
}

func eachFile(t *testing.T, f func(path string, src []byte, set *token.FileSet, file *ast.File)) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && strings.HasPrefix(d.Name(), ".") {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".go" {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, rel, src, parser.ParseComments)
		if err != nil {
			return fmt.Errorf("%s: %w", rel, err)
		}
		n++
		f(filepath.ToSlash(rel), src, set, file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n < 20 {
		t.Fatalf("only %d Go files were found below %s", n, root)
	}
}

func goTool(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = root
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("go %s: %v\n%s%s", strings.Join(args, " "), err, out.Bytes(), errs.Bytes())
	}
	return out.String()
}
