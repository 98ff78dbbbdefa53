package pki_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/covey-ml/covey/pki"
)

// A cluster's authority and one node. ca-key.pem stays in this folder; the other three files go to the node.
func Example() {
	tmp, err := os.MkdirTemp("", "pki")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	dir, now := filepath.Join(tmp, "ca"), time.Now()
	if err := pki.Init(dir, now); err != nil {
		log.Fatal(err)
	}
	if err := pki.Issue(dir, "node1", now, "node1.example.org", "10.0.0.11"); err != nil {
		log.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range files {
		fmt.Println(f.Name())
	}
	conf, err := pki.Load(dir, "node1", now)
	if err != nil {
		log.Fatal(err)
	}
	leaf := conf.Certificates[0].Leaf
	fmt.Println(leaf.Subject.CommonName, leaf.DNSNames, leaf.IPAddresses)
	// Output:
	// ca-key.pem
	// ca.pem
	// node1-key.pem
	// node1.pem
	// node1 [node1 node1.example.org] [10.0.0.11]
}
