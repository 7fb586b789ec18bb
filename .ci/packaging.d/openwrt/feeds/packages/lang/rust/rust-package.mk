# Stands in for the Rust of the packages feed: what would be built is printed, and a program takes its place.
RUST_ARCH_DEPENDS := @has-rust
define Build/Compile/Cargo
	@echo 'cargo path=$(strip $(1)) arguments=$(strip $(2))'
	install -D -m 0755 /bin/true $(PKG_INSTALL_DIR)/bin/adit
endef
