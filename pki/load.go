package pki

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Load reads ca.pem, NAME.pem and NAME-key.pem from dir. With an empty name it takes the folder's only node.
func Load(dir, name string, now time.Time) (*tls.Config, error) {
	if name == "" {
		names, err := nodes(dir)
		if err != nil {
			return nil, err
		}
		switch len(names) {
		case 0:
			return nil, fmt.Errorf("pki: no node's certificate in %s: make one with `covey ca issue %s NAME HOST...`", dir, dir)
		case 1:
			name = names[0]
		default:
			return nil, fmt.Errorf("pki: %s holds certificates of %s: say which is this node's", dir, strings.Join(names, ", "))
		}
	} else if err := checkName(name); err != nil {
		return nil, err
	}
	in := func(file string) string { return filepath.Join(dir, file+".pem") }
	return load(in(caName), in(name), in(name+keyMark), now,
		fmt.Sprintf("`covey ca init %s`", dir), fmt.Sprintf("`covey ca issue %s %s HOST...`", dir, name))
}

// LoadFiles reads the cluster's certificate, the node's and the node's key (PKCS 8), all PEM, from where they are. They
// may come from another authority of yours, as long as it signed the node's certificate itself, for both sides of TLS.
func LoadFiles(ca, cert, key string, now time.Time) (*tls.Config, error) {
	return load(ca, cert, key, now, "`covey ca init DIR`", "`covey ca issue DIR NAME HOST...`")
}

func nodes(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("pki: no folder %s: make the cluster's CA with `covey ca init %s`", dir, dir)
	} else if err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	var names []string
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".pem")
		if ok && name != caName && !strings.HasSuffix(name, keyMark) {
			names = append(names, name)
		}
	}
	return names, nil
}

// load checks everything that a handshake would refuse, so that the error comes at start and names the file.
func load(caPath, certPath, keyPath string, now time.Time, initCmd, issueCmd string) (*tls.Config, error) {
	ca, err := loadCert(caPath, "make the cluster's CA with "+initCmd+", or copy it from the machine that has it")
	if err != nil {
		return nil, err
	}
	cert, err := loadCert(certPath, "make the node's certificate with "+issueCmd)
	if err != nil {
		return nil, err
	}
	key, err := loadKey(keyPath, "make the node's certificate and key with "+issueCmd)
	if err != nil {
		return nil, err
	}
	again := "make a new one with " + issueCmd
	if !ca.IsCA {
		return nil, fmt.Errorf("pki: %s is not a CA's certificate: it is made by %s", caPath, initCmd)
	}
	if cert.IsCA {
		return nil, fmt.Errorf("pki: %s is a CA's certificate, not a node's: %s", certPath, again)
	}
	if err := current(ca, caPath, now, "make a new CA in an empty folder with `covey ca init DIR`, and new node certificates"); err != nil {
		return nil, err
	}
	if err := current(cert, certPath, now, again); err != nil {
		return nil, err
	}
	if !belong(key, cert) {
		return nil, fmt.Errorf("pki: %s is not the key of %s", keyPath, certPath)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		_, err := cert.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{use}})
		var unknown x509.UnknownAuthorityError
		switch {
		case errors.As(err, &unknown):
			return nil, fmt.Errorf("pki: %s was issued by another CA than %s: %s", certPath, caPath, again)
		case err != nil:
			return nil, fmt.Errorf("pki: %s: %w: %s", certPath, err, again)
		}
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}},
		RootCAs:      pool,
		ClientCAs:    pool,
		ClientAuth:   tls.RequireAndVerifyClientCert,
	}, nil
}

// current tells whether now lies within the certificate's life; cure says what to do when not.
func current(c *x509.Certificate, path string, now time.Time, cure string) error {
	switch {
	case now.After(c.NotAfter):
		return fmt.Errorf("pki: %s expired on %s: %s", path, c.NotAfter.Format(time.DateOnly), cure)
	case now.Before(c.NotBefore):
		return fmt.Errorf("pki: %s is valid from %s on, and this machine's clock says %s: set the clock right",
			path, c.NotBefore.Format(time.DateTime), now.UTC().Format(time.DateTime))
	}
	return nil
}

func loadCert(path, cure string) (*x509.Certificate, error) {
	der, err := loadPEM(path, "CERTIFICATE", cure)
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("pki: %s: %w", path, err)
	}
	return c, nil
}

func loadKey(path, cure string) (crypto.Signer, error) {
	der, err := loadPEM(path, "PRIVATE KEY", cure)
	if err != nil {
		return nil, err
	}
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("pki: %s: %w", path, err)
	}
	key, ok := k.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("pki: %s holds a %T, which cannot sign: want a key as `covey ca` makes them", path, k)
	}
	return key, nil
}

// belong tells whether key is the certificate's.
func belong(key crypto.Signer, cert *x509.Certificate) bool {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(cert.PublicKey)
}

func loadPEM(path, kind, cure string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("pki: no file %s: %s", path, cure)
	} else if err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	var kinds []string
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if block.Type == kind {
			return block.Bytes, nil
		}
		if !slices.Contains(kinds, block.Type) {
			kinds = append(kinds, block.Type)
		}
	}
	if kinds == nil {
		return nil, fmt.Errorf("pki: %s is not a PEM file", path)
	}
	return nil, fmt.Errorf("pki: %s holds a %s, want a %s", path, strings.Join(kinds, " and a "), kind)
}
