//! What people do with each client.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use serde_json::json;

use crate::user::{PASSWORD, User, feed, modified, noise, run, text};
use crate::{with_user, without_clients};

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn openssh_transfers_resumes_lists_links_and_keeps_modes_and_times() {
    if without_clients() {
        return;
    }
    with_user(json!({}), async |_, user: User| {
        let data = noise(5 * MIB + 12_345);
        let source = user.file("big.bin", &data);
        fs::set_permissions(&source, fs::Permissions::from_mode(0o755)).unwrap();
        run(Command::new("touch").args(["-d", "@1000000000"]).arg(&source));
        let back = user.path("back.bin");
        let folder = user.path("tree");
        fs::create_dir_all(folder.join("a/b")).unwrap();
        fs::write(folder.join("a/b/c"), "inner").unwrap();
        let output = user.batch(&format!(
            "put -p {0} dir/big.bin\nget -p dir/big.bin {1}\nput -r {2} tree\nls -la dir\nmkdir new\nchmod 700 new\n\
             ln -s dir/big.bin link\nln dir/big.bin hard\nrename new newer\nrename hard newer/hard\ndf\npwd\nls -l link\n",
            source.display(),
            back.display(),
            folder.display()
        ));
        assert_eq!(user.stored("dir/big.bin"), data);
        assert_eq!(fs::read(&back).unwrap(), data);
        let found = fs::metadata(user.data.join("dir/big.bin")).unwrap();
        assert_eq!((found.mode() & 0o777, found.mtime(), found.nlink()), (0o755, 1_000_000_000, 2));
        assert_eq!(modified(&back), 1_000_000_000);
        assert_eq!(user.stored("tree/a/b/c"), b"inner");
        assert_eq!(fs::metadata(user.data.join("newer")).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::read_link(user.data.join("link")).unwrap().to_str(), Some("dir/big.bin"));
        assert!(output.contains("Remote working directory: /"), "{output}");
        assert!(output.contains("-rwxr-xr-x"), "{output}");

        // Resume in both directions.
        fs::write(user.data.join("dir/part.bin"), &data[..MIB]).unwrap();
        fs::write(user.path("part.bin"), &data[..2 * MIB]).unwrap();
        user.batch(&format!(
            "reput {} dir/part.bin\nreget dir/big.bin {}\n",
            source.display(),
            user.path("part.bin").display()
        ));
        assert_eq!(user.stored("dir/part.bin"), data);
        assert_eq!(fs::read(user.path("part.bin")).unwrap(), data);

        // A target that exists: `rename` of OpenSSH replaces it, as `mv` does.
        user.batch("rename dir/part.bin dir/big.bin\nrm newer/hard\nrmdir newer\n");
        assert!(!user.data.join("dir/part.bin").exists() && !user.data.join("newer").exists());
        let refused = user.try_batch("get missing\n").unwrap_err();
        assert!(refused.contains("not found") || refused.contains("No such file"), "{refused}");
        assert!(user.try_batch("get ../../../../etc/passwd /dev/null\n").is_err());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scp_and_lftp_and_rclone_and_sshfs_work() {
    if without_clients() {
        return;
    }
    with_user(json!({}), async |_, user: User| {
        let data = noise(3 * MIB + 1);
        let source = user.file("data.bin", &data);
        let remote = format!("{}:", user.at_host());

        let scp = |arguments: &[String]| {
            run(Command::new("scp").args(user.options()).args(["-s", "-p", "-P", &user.port]).args(arguments));
        };
        scp(&[source.display().to_string(), format!("{remote}/scp.bin")]);
        assert_eq!(user.stored("scp.bin"), data);
        scp(&[format!("{remote}/scp.bin"), user.path("scp.back").display().to_string()]);
        assert_eq!(fs::read(user.path("scp.back")).unwrap(), data);

        lftp(&user, &data);
        rclone(&user, &data);
        if fs::metadata("/dev/fuse").is_ok() {
            sshfs(&user, &data);
        } else {
            eprintln!("skipped: sshfs, because there is no /dev/fuse");
        }
    })
    .await;
}

fn lftp(user: &User, data: &[u8]) {
    let (source, back) = (user.path("data.bin"), user.path("lftp.back"));
    let connect = format!("ssh {}", user.options().join(" "));
    let script = format!(
        "set sftp:connect-program \"{connect}\"\nset net:max-retries 1\nset cmd:fail-exit yes\n\
         open -u {},{PASSWORD} -p {} sftp://127.0.0.1\nmkdir -p lftp/deep\nput {} -o lftp/deep/x.bin\n\
         get lftp/deep/x.bin -o {}\nmirror -R {} lftp/mirror\nls lftp\nmv lftp/deep/x.bin lftp/y.bin\nrm -r lftp/deep\nbye\n",
        user.name,
        user.port,
        source.display(),
        back.display(),
        user.path("tree").display(),
    );
    fs::create_dir_all(user.path("tree/sub")).unwrap();
    fs::write(user.path("tree/sub/file"), "x").unwrap();
    let output = feed(Command::new("lftp").env("HOME", user.folder.path()).args(["--norc"]), &script);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(user.stored("lftp/y.bin"), data);
    assert_eq!(fs::read(back).unwrap(), data);
    assert_eq!(user.stored("lftp/mirror/sub/file"), b"x");
}

fn rclone(user: &User, data: &[u8]) {
    let rclone = |arguments: &[&str]| {
        let host = format!(
            ":sftp,host=127.0.0.1,port={},user={},key_file={},shell_type=none,disable_hashcheck=true:",
            user.port,
            user.name,
            user.path("key").display()
        );
        let arguments: Vec<String> = arguments.iter().map(|argument| argument.replace("REMOTE:", &host)).collect();
        run(Command::new("rclone").env("HOME", user.folder.path()).args(["--config", "", "-q"]).args(arguments))
    };
    let tree = user.path("many");
    fs::create_dir_all(&tree).unwrap();
    for number in 0..40 {
        fs::write(tree.join(format!("file {number}")), &data[..number * 1000]).unwrap();
    }
    let local = tree.display().to_string();
    rclone(&["sync", &local, "REMOTE:rclone"]);
    rclone(&["check", "--download", &local, "REMOTE:rclone"]);
    fs::remove_file(tree.join("file 7")).unwrap();
    rclone(&["sync", &local, "REMOTE:rclone"]);
    assert_eq!(fs::read_dir(user.data.join("rclone")).unwrap().count(), 39);
    assert_eq!(modified(&user.data.join("rclone/file 8")), modified(&tree.join("file 8")));
    rclone(&["purge", "REMOTE:rclone"]);
    assert!(!user.data.join("rclone").exists());
}

fn sshfs(user: &User, data: &[u8]) {
    let mount = user.path("mount");
    fs::create_dir(&mount).unwrap();
    let mut command = Command::new("sshfs");
    command.args(user.options()).args(["-p", &user.port, &format!("{}:/", user.at_host())]).arg(&mount);
    run(&mut command);
    let at = |name: &str| mount.join(name);
    fs::create_dir(at("sshfs")).unwrap();
    fs::write(at("sshfs/one"), data).unwrap();
    assert_eq!(fs::read(at("sshfs/one")).unwrap(), data);
    {
        use std::io::Write as _;
        let mut log = fs::File::options().append(true).create(true).open(at("sshfs/log")).unwrap();
        log.write_all(b"first ").unwrap();
        log.write_all(b"second").unwrap();
        log.sync_all().unwrap();
    }
    fs::File::options().write(true).open(at("sshfs/one")).unwrap().set_len(10).unwrap();
    fs::rename(at("sshfs/one"), at("sshfs/log2")).unwrap();
    fs::rename(at("sshfs/log2"), at("sshfs/log")).unwrap();
    std::os::unix::fs::symlink("log", at("sshfs/link")).unwrap();
    fs::hard_link(at("sshfs/log"), at("sshfs/hard")).unwrap();
    assert_eq!(fs::read_link(at("sshfs/link")).unwrap().to_str(), Some("log"));
    fs::set_permissions(at("sshfs/log"), fs::Permissions::from_mode(0o640)).unwrap();
    assert!(fs::File::options().write(true).create_new(true).open(at("sshfs/log")).is_err());
    run(Command::new("fusermount3").arg("-u").arg(&mount));
    assert_eq!(user.stored("sshfs/log"), &data[..10]);
    let found = fs::metadata(user.data.join("sshfs/hard")).unwrap();
    assert_eq!((found.mode() & 0o777, found.nlink()), (0o640, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn python_libraries_work() {
    if without_clients() {
        return;
    }
    with_user(json!({}), async |_, user: User| {
        let data = noise(2 * MIB + 3);
        user.file("data.bin", &data);
        for (library, script) in
            [("paramiko", include_str!("paramiko_client.py")), ("asyncssh", include_str!("asyncssh_client.py"))]
        {
            let path = user.file("client.py", script.as_bytes());
            let arguments = [&user.port, &user.name, PASSWORD];
            run(Command::new("/usr/bin/python3").current_dir(user.folder.path()).arg(path).args(arguments));
            assert_eq!(user.stored(&format!("{library}.bin")), data, "{library}");
        }
    })
    .await;
}
