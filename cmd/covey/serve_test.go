package main

import (
	"net"

	"github.com/rogpeppe/go-internal/testscript"
)

func init() { words["port"] = scriptPort }

// scriptPort is "port NAME": set the variable to an address of loopback that nobody listens on.
func scriptPort(ts *testscript.TestScript, neg bool, args []string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv(args[0], ln.Addr().String())
	ts.Check(ln.Close())
}
