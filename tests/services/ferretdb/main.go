// Command ferretdb serves the MongoDB wire protocol for the tests of the ledger: an embedded FerretDB with a serialising front.
//
// FerretDB alone is not atomic: concurrent updates of one document lose acknowledged changes. The front makes it so: FerretDB
// listens on a unix socket in the data folder, clients reach the front over TCP or TLS, and one lock spans each message and its
// answer. Nothing else is added, so what FerretDB lacks (users, transactions, replica sets) is lacking here too.
//
// The program prints "listening on ADDRESS" when clients may come, and ends when its standard input closes, so that it never
// outlives the process that started it.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/FerretDB/FerretDB/ferretdb"
)

const (
	headerSize     = 16       // int32 length, request id, answered id, operation
	maxMessageSize = 48000000 // the protocol's own limit
	opMsg          = 2013
	moreToCome     = 1 << 1 // flag of OP_MSG: the sender goes on, or wants no answer
)

func main() {
	folder := flag.String("folder", "", "folder for the data and the unix socket")
	address := flag.String("listen", "127.0.0.1:0", "address for clients; port 0 takes a free one")
	certificate := flag.String("cert", "", "certificate file: clients must use TLS")
	key := flag.String("key", "", "key file of the certificate")
	authority := flag.String("ca", "", "certificate file: clients must show a certificate that it signed")
	flag.Parse()
	if err := serve(*folder, *address, *certificate, *key, *authority); err != nil {
		fmt.Fprintln(os.Stderr, "ferretdb:", err)
		os.Exit(1)
	}
}

func serve(folder, address, certificate, key, authority string) error {
	socket, err := startFerretDB(folder)
	if err != nil {
		return err
	}
	clients, err := listen(address, certificate, key, authority)
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fmt.Println("listening on", clients.Addr())
	var turn sync.Mutex
	for {
		client, err := clients.Accept()
		if err != nil {
			return err
		}
		go func() {
			if err := relay(client, socket, &turn); err != nil && !errors.Is(err, io.EOF) {
				fmt.Fprintln(os.Stderr, "ferretdb:", err)
			}
		}()
	}
}

// startFerretDB returns the path of the unix socket once FerretDB answers on it.
func startFerretDB(folder string) (string, error) {
	data := filepath.Join(folder, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return "", err
	}
	socket := filepath.Join(folder, "socket")
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err // a killed server leaves its socket behind, which is fine
	}
	server, err := ferretdb.New(&ferretdb.Config{
		Listener:  ferretdb.ListenerConfig{Unix: socket},
		Handler:   "sqlite",
		SQLiteURL: "file:" + data + "/",
		Logger:    slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		return "", err
	}
	go func() {
		if err := server.Run(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, "ferretdb:", err)
			os.Exit(1)
		}
	}()
	return socket, await(socket)
}

func await(socket string) error {
	for range 1000 {
		if connection, err := net.Dial("unix", socket); err == nil {
			return connection.Close()
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.New("FerretDB did not answer on its socket within 10 s")
}

func listen(address, certificate, key, authority string) (net.Listener, error) {
	if certificate == "" {
		return net.Listen("tcp", address)
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if authority != "" {
		signer, err := os.ReadFile(authority)
		if err != nil {
			return nil, err
		}
		config.ClientCAs, config.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !config.ClientCAs.AppendCertsFromPEM(signer) {
			return nil, fmt.Errorf("%s holds no certificate", authority)
		}
	}
	return tls.Listen("tcp", address, config)
}

// relay passes the messages of one client on, each under the lock until its answer is complete.
func relay(client net.Conn, socket string, turn *sync.Mutex) error {
	defer client.Close()
	backend, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer backend.Close()
	for {
		message, err := readMessage(client)
		if err != nil {
			return err
		}
		if err := exchange(client, backend, message, turn); err != nil {
			return err
		}
	}
}

func exchange(client, backend net.Conn, message []byte, turn *sync.Mutex) error {
	turn.Lock()
	defer turn.Unlock()
	if _, err := backend.Write(message); err != nil {
		return err
	}
	for expects := !hasMoreToCome(message); expects; {
		answer, err := readMessage(backend)
		if err != nil {
			return err
		}
		if _, err := client.Write(answer); err != nil {
			return err
		}
		expects = hasMoreToCome(answer)
	}
	return nil
}

// readMessage reads one whole message, which begins with its length.
func readMessage(from io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(from, length[:]); err != nil {
		return nil, err
	}
	size := binary.LittleEndian.Uint32(length[:])
	if size < headerSize || size > maxMessageSize {
		return nil, fmt.Errorf("a message of %d bytes is none of this protocol (%d..%d)", size, headerSize, maxMessageSize)
	}
	message := make([]byte, size)
	copy(message, length[:])
	_, err := io.ReadFull(from, message[4:])
	return message, err
}

func hasMoreToCome(message []byte) bool {
	if len(message) < headerSize+4 || binary.LittleEndian.Uint32(message[12:]) != opMsg {
		return false
	}
	return binary.LittleEndian.Uint32(message[16:])&moreToCome != 0
}
