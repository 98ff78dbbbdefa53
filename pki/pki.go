// Package pki is a small certificate authority for one cluster, on crypto/x509 alone.
//
// Once, on a machine that you trust, Init makes the authority's certificate and key:
//
//	covey ca init ca/                       ca/ca.pem  ca/ca-key.pem
//
// For each machine, Issue makes a certificate and a key, good for the server's and the client's side of TLS and for
// the host names and addresses that peers will dial:
//
//	covey ca issue ca/ node1 10.0.0.11      ca/node1.pem  ca/node1-key.pem
//
// Bring ca.pem, node1.pem and node1-key.pem to that machine; ca-key.pem stays where it is. There, Load makes of them
// the *tls.Config that comm/tcp wants: TLS 1.3, where each side verifies the other against ca.pem and nothing else.
//
// Keys are Ed25519 and never leave the folder they were made in by this package's doing. Nothing is revoked: a
// certificate lives NodeLife, and who loses a key makes a new authority. Times come from the caller.
package pki

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// CALife is how long an authority is valid.
	CALife = 10 * 365 * 24 * time.Hour
	// NodeLife is how long a node's certificate is valid, and never longer than its authority.
	NodeLife = 2 * 365 * 24 * time.Hour

	// skew is how far a machine's clock may be behind that of the machine that made the certificates.
	skew = time.Hour

	caName  = "ca"
	keyMark = "-key"
)

// Init makes a new authority in dir, which it creates if need be: ca.pem, for every node, and ca-key.pem, which only
// its owner can read. It refuses to overwrite either.
func Init(dir string, now time.Time) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	public, key, serial, err := draw()
	if err != nil {
		return err
	}
	cert := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: fmt.Sprintf("covey cluster CA %x", serial.Bytes()[:4])},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(CALife),
		IsCA:                  true,
		MaxPathLenZero:        true, // it signs nodes, not other authorities
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, public, key)
	if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	return write(dir, caName, der, key)
}

// Issue makes NAME.pem and NAME-key.pem in the authority's folder. hosts are the DNS names (a leading "*." stands for
// one label) and IP addresses that peers dial this node by; name is one of them when it can be. It refuses to
// overwrite.
func Issue(dir, name string, now time.Time, hosts ...string) error {
	if err := checkName(name); err != nil {
		return err
	}
	ca, err := loadCert(filepath.Join(dir, caName+".pem"), fmt.Sprintf("make the cluster's CA with `covey ca init %s`", dir))
	if err != nil {
		return err
	}
	if err := current(ca, filepath.Join(dir, caName+".pem"), now, "make a new CA in an empty folder with `covey ca init DIR`, and new node certificates"); err != nil {
		return err
	}
	caKey, err := loadKey(filepath.Join(dir, caName+keyMark+".pem"), "certificates are issued where `covey ca init` ran; the key stays there")
	if err != nil {
		return err
	}
	if !belong(caKey, ca) {
		return fmt.Errorf("pki: %s and %s do not belong together", filepath.Join(dir, caName+".pem"), filepath.Join(dir, caName+keyMark+".pem"))
	}
	public, key, serial, err := draw()
	if err != nil {
		return err
	}
	cert := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(NodeLife),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if cert.NotAfter.After(ca.NotAfter) {
		cert.NotAfter = ca.NotAfter
	}
	seen := map[string]bool{}
	for _, h := range append([]string{name}, hosts...) {
		if seen[h] {
			continue
		}
		seen[h] = true
		switch ip := net.ParseIP(h); {
		case ip != nil && ip.IsUnspecified():
			return fmt.Errorf("pki: host %s of %s is not an address that a peer can dial", h, name)
		case ip != nil:
			cert.IPAddresses = append(cert.IPAddresses, ip)
		case dnsName(strings.TrimPrefix(h, "*.")):
			cert.DNSNames = append(cert.DNSNames, h)
		case h != name:
			return fmt.Errorf("pki: host %q of %s is neither a DNS name nor an IP address (no port, no scheme)", h, name)
		}
	}
	if len(cert.IPAddresses)+len(cert.DNSNames) == 0 {
		return fmt.Errorf("pki: %s is not a host name: give the names or addresses that peers dial it by: `covey ca issue %s %s HOST...`", name, dir, name)
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, ca, public, caKey)
	if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	return write(dir, name, der, key)
}

// draw makes the keys and the serial number of a certificate.
func draw() (public ed25519.PublicKey, key ed25519.PrivateKey, serial *big.Int, err error) {
	if public, key, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return nil, nil, nil, fmt.Errorf("pki: %w", err)
	}
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		return nil, nil, nil, fmt.Errorf("pki: %w", err)
	}
	b[0] = b[0]&0x3f | 0x40 // positive, and 16 bytes long
	return public, key, new(big.Int).SetBytes(b), nil
}

// checkName holds a node's name to what is a file name everywhere and not one of the authority's.
func checkName(name string) error {
	bad := name == "" || name == caName || strings.HasPrefix(name, ".") || strings.HasSuffix(name, keyMark) || len(name) > 64
	for _, c := range name {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-._", c)) {
			bad = true
		}
	}
	if bad {
		return fmt.Errorf("pki: %q cannot name a node: want 1 to 64 letters, digits, '-', '.' and '_', not %q, not ending in %q", name, caName, keyMark)
	}
	return nil
}

func dnsName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range label {
			if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-') {
				return false
			}
		}
	}
	return true
}

// write makes both files or neither.
func write(dir, name string, cert []byte, key ed25519.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	keyPath, certPath := filepath.Join(dir, name+keyMark+".pem"), filepath.Join(dir, name+".pem")
	if err := writeNew(keyPath, "PRIVATE KEY", der, 0o600); err != nil {
		return err
	}
	if err := writeNew(certPath, "CERTIFICATE", cert, 0o644); err != nil {
		return errors.Join(err, os.Remove(keyPath))
	}
	return nil
}

// writeNew writes a file that did not exist, whole or not at all.
func writeNew(path, kind string, der []byte, mode os.FileMode) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("pki: %s exists and is not overwritten: remove it first, or use another folder or name", path)
	} else if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	defer func() {
		if e := f.Close(); err == nil && e != nil {
			err = fmt.Errorf("pki: %w", e)
		}
		if err != nil {
			os.Remove(path)
		}
	}()
	if err := pem.Encode(f, &pem.Block{Type: kind, Bytes: der}); err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	return nil
}
