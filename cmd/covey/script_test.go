package main

import (
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/worker"
)

// TestMain makes the test binary be the command, too: for the scripts, and for the workers that covey train starts from
// its own binary.
func TestMain(m *testing.M) {
	if os.Getenv(cluster.EnvRank) != "" && os.Getenv(worker.EnvJoin) == "" {
		main()
	}
	testscript.Main(m, map[string]func(){"covey": main, "trainer": trainer})
}

// words are our own in the language of the scripts.
var words = map[string]func(*testscript.TestScript, bool, []string){
	"exits":   scriptExits,
	"flip":    scriptFlip,
	"cut":     scriptCut,
	"same":    scriptSame,
	"picture": scriptPicture,
	"rows":    scriptRows,
}

// TestScripts runs testdata/script/*.txt: see the package testscript for the language, and below for our own words.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("COVEY_DATA", os.Getenv("COVEY_DATA"))
			return nil
		},
		Cmds: words,
	})
}

// scriptExits is "exits CODE covey ARGS...": run the command and want this exit code. Its output is the script's.
func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if err := ts.Exec(args[1], args[2:]...); err == nil && want != 0 {
		ts.Fatalf("exit code 0, want %d", want)
	} else if err != nil {
		exit, ok := err.(interface{ ExitCode() int })
		if !ok || exit.ExitCode() != want {
			ts.Fatalf("%v, want exit code %d", err, want)
		}
	}
}

// scriptFlip is "flip FILE OFFSET": change one byte; a negative offset counts from the end.
func scriptFlip(ts *testscript.TestScript, neg bool, args []string) {
	path := ts.MkAbs(args[0])
	b, err := os.ReadFile(path)
	ts.Check(err)
	at, err := strconv.Atoi(args[1])
	ts.Check(err)
	if at < 0 {
		at += len(b)
	}
	b[at] ^= 1
	ts.Check(os.WriteFile(path, b, 0o666))
}

// scriptCut is "cut FILE SIZE": leave only so many bytes.
func scriptCut(ts *testscript.TestScript, neg bool, args []string) {
	size, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	ts.Check(os.Truncate(ts.MkAbs(args[0]), size))
}

// scriptSame is "same FILE FILE KEY...": both hold one JSON object, and the values of the keys are there and equal.
func scriptSame(ts *testscript.TestScript, neg bool, args []string) {
	var both [2]map[string]any
	for i := range both {
		ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[i])), &both[i]))
	}
	for _, k := range args[2:] {
		a, ok := both[0][k]
		b, ok2 := both[1][k]
		if !ok || !ok2 || !reflect.DeepEqual(a, b) {
			ts.Fatalf("%s: %v (%v) in %s, %v (%v) in %s", k, a, ok, args[0], b, ok2, args[1])
		}
	}
}

// scriptRows is "rows FILE N KEY[=VALUE]...": a JSON list of N objects, each of which has the keys, with these values.
func scriptRows(ts *testscript.TestScript, neg bool, args []string) {
	var rows []map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &rows))
	if want, err := strconv.Atoi(args[1]); err != nil || len(rows) != want {
		ts.Fatalf("%d rows, want %s", len(rows), args[1])
	}
	for i, row := range rows {
		for _, arg := range args[2:] {
			key, want, given := strings.Cut(arg, "=")
			v, ok := row[key]
			if !ok || given && fmt.Sprint(v) != want {
				ts.Fatalf("row %d: %s is %v, want %s", i, key, v, arg)
			}
		}
	}
}

// scriptPicture is "picture FILE I [dark] [large]": write test digit number I of digits:test=100 as PNG, dark on light
// paper or in three times the size.
func scriptPicture(ts *testscript.TestScript, neg bool, args []string) {
	_, test, err := data.Open(context.Background(), "digits:train=400,test=100", data.Options{})
	ts.Check(err)
	i, err := strconv.Atoi(args[1])
	ts.Check(err)
	var b data.Batch
	test.Gather(&b, []int{i})
	scale, dark := 1, false
	for _, how := range args[2:] {
		switch how {
		case "dark":
			dark = true
		case "large":
			scale = 3
		default:
			ts.Fatalf("picture: %s?", how)
		}
	}
	img := image.NewGray(image.Rect(0, 0, 28*scale, 28*scale))
	for y := range 28 * scale {
		for x := range 28 * scale {
			v := uint8(b.X[y/scale*28+x/scale]*255 + 0.5)
			if dark {
				v = 255 - v
			}
			img.SetGray(x, y, color.Gray{Y: v})
		}
	}
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Check(png.Encode(f, img))
	ts.Check(f.Close())
}
