# Stands in for OpenWrt's rules.mk.
INSTALL_DIR := install -d -m 0755
INSTALL_BIN := install -m 0755
INSTALL_CONF := install -m 0600
INSTALL_DATA := install -m 0644
CP := cp -fpR
PKG_BUILD_DIR = $(OUT)/build
PKG_INSTALL_DIR = $(OUT)/installed
INCLUDE_DIR := $(TOPDIR)
