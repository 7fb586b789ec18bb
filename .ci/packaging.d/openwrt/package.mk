# Stands in for OpenWrt's package.mk: builds and installs into $(OUT), and prints what the package says of itself.
define Build/Prepare
endef

define BuildPackage
$(eval $(Package/$(1)))
all:
	$$(call Build/Prepare)
	$$(call Build/Compile)
	$$(call Package/$(1)/install,$(OUT)/root)
	@echo 'package=$(PKG_NAME) version=$(PKG_VERSION) title=$(TITLE) user=$(USERID) depends=$(DEPENDS)'
	@echo 'conffiles=$(strip $(Package/$(1)/conffiles))'
endef
